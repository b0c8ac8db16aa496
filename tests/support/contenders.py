"""Contenders of the benchmark of peers."""

from benchmarks.peers.programs import Program
from benchmarks.peers.windows import TWENTY, Contender


def contender(*, known: list[int] | None = None, early: bool = False) -> Contender:
    """One that is asked for 20 votes."""
    learnt = {} if known is None else {b"body": known}
    return Contender("A", "float32", "/", {20: [b"body"], 1: [b"body"]}, list, (TWENTY,), early, learnt)


class Idle(Program):
    """A program that does nothing."""

    def __init__(self) -> None:
        """Start nothing."""

    def processor_seconds(self) -> float:
        """None."""
        return 0.0
