"""The commands of `python -m training`: a file a group, each command's flags beside what it does."""
