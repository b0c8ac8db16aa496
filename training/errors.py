"""The base of training's own errors, which a command reports in one line instead of a trace."""


class TrainingError(Exception):
    """A command of `python -m training` cannot do what was asked."""
