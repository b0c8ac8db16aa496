"""A request as scheduling knows it: rows to compute, and the rule that says when there are enough of them.

Its deadline is not here: service/scheduling/in_flight.py keeps it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.session_key import SessionKey
from noisevote.voting.stopping import StopRule


@dataclass(frozen=True, eq=False)
class VoteRequest:
    """A request as the scheduler knows it; told apart by identity.

    `inputs` is float32 [n, *shape]; `sigma` the operator's (multiplicative, additive) pair, reads
    folded in; `seed` 64 unsigned bits; `votes` the budget of each input; `priority` its weight against
    other requests, at least 1; `anytime` asks for votes on all inputs alike, because they may be looked
    at before the end; `first_vote` is the number of each input's first vote, the others follow; `keeps_votes` asks
    for each vote's logits.
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

    @property
    def bytes(self) -> int:
        """What it keeps in memory while it waits: its inputs, two numbers per input and class, and the kept votes."""
        tally = len(self.inputs) * self.classes * 2 * np.dtype(np.int64).itemsize
        kept = self.rows * (self.classes * np.dtype(np.float32).itemsize + 1) if self.keeps_votes else 0
        return self.inputs.nbytes + tally + kept

    @property
    def rows(self) -> int:
        """Rows that it may take in all."""
        return len(self.inputs) * self.votes
