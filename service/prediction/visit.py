"""A request from its arrival to its answer, as the access log tells of it."""

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
        began: when it came, in seconds of the performance counter; None: that was not noted.
    """

    caller: Caller = ANYBODY
    session: SessionKey | None = None
    inputs: int = 0
    votes: int = 0
    queue_s: float | None = None
    began: float | None = None
