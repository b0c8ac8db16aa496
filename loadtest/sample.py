"""What became of the requests of a phase."""

from typing import Final

from noisevote.loadtest.phase import Frozen

ANSWERED: Final = "200"


class Sample(Frozen):
    """One request. Times are seconds from the phase's begin."""

    votes: int
    due: float
    """when it was to be sent; in a closed loop, when it was sent"""
    started: float
    """when it was sent"""
    finished: float
    """when its answer, or the failure, was there"""
    outcome: str
    """the HTTP status, or the name of the error that kept it from one"""
    votes_used: int
    """votes counted in the answer; 0 without one"""


class Turn(Frozen):
    """All requests of a phase, and the processor seconds that making them took."""

    samples: tuple[Sample, ...]
    processor_seconds: float
