"""Labelled data sets as arrays: read from a folder, or downloaded once, and always checked by hash."""
