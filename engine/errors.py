"""What can be wrong with a published file."""


class BadModelError(Exception):
    """A published file cannot be run, though its hash is right."""
