"""A request as scheduling knows it: rows to compute, and the rule that says when there are enough of them.

Its deadline is not here: service/scheduling/in_flight.py keeps it.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.session_key import SessionKey
from noisevote.voting.stopping import StopRule

INT64_BYTES: Final = 8
FLOAT32_BYTES: Final = 4


@dataclass(frozen=True, eq=False)
class VoteRequest:
    """A request as the scheduler knows it; told apart by identity.

    `inputs` is float32 [n, *shape]; `sigma` the operator's (multiplicative, additive) pair, reads
    folded in; `seed` 64 unsigned bits; `votes` the budget of each input; `priority` its weight against
    other requests, at least 1; `anytime` asks for votes on all inputs alike, because they may be looked
    at before the end; `first_vote` is the number of each input's first vote, the others follow; `keeps_votes` asks
    for each vote's logits.

    `rows` are those that it may take in all, and `bytes` what it keeps in memory while it waits: its inputs, two
    numbers per input and class, and the kept votes.
    """

    session: SessionKey
    inputs: NDArray[np.float32]
    classes: int
    sigma: tuple[float, float]
    seed: int
    votes: int
    rule: StopRule
    priority: int = 1
    anytime: bool = False
    first_vote: int = 0
    keeps_votes: bool = False
    rows: int = field(init=False)
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        rows = len(self.inputs) * self.votes
        tally = len(self.inputs) * self.classes * 2 * INT64_BYTES
        kept = rows * (self.classes * FLOAT32_BYTES + 1) if self.keeps_votes else 0
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "bytes", self.inputs.nbytes + tally + kept)
