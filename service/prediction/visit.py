"""A request from its arrival to its answer, as the access log tells of it."""

from collections.abc import Callable
from dataclasses import dataclass

from noisevote.engine.session_key import SessionKey
from noisevote.service.callers import ANYBODY, Caller


@dataclass(slots=True)
class Visit:
    """Who asks, and what is learnt of the request while it is handled. It never holds anything of an input.

    Attributes:
        caller: who asks.
        session: what it is about, as far as that was found to be served.
        inputs: number of inputs.
        votes: votes asked for, over all inputs.
        queue_s: seconds from acceptance to the first batch.
        arrived: when its first bytes came, in seconds of the performance counter; None: when it began.
        began: when it was its turn to be handled, in the same seconds; None: that was not noted.
    """

    caller: Caller = ANYBODY
    session: SessionKey | None = None
    inputs: int = 0
    votes: int = 0
    queue_s: float | None = None
    arrived: float | None = None
    began: float | None = None
    _tell: Callable[[float], None] | None = None

    def tell_end(self, tell: Callable[[float], None]) -> None:
        """Let be told when it ends."""
        self._tell = tell

    def end(self, now: float) -> None:
        """Note that its answer was handed to its connection at `now`."""
        if self._tell is not None:
            self._tell(now)
