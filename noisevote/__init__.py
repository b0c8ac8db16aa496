"""The command `noisevote`."""
