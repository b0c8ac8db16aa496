"""The commands of `noisevote`, a file each; `noisevote/console/command.py` says what a file has."""
