"""What cannot be given noise."""


class UninjectableError(ValueError):
    """A network in which noise cannot be put after every product; the message names the place."""
