"""What the counted votes of a request decide, before a protocol puts it into words."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisevote.service.prediction.prepare import Prepared
from noisevote.service.scheduling.ticket import CountedVotes
from noisevote.voting.decision import Decisions, decide

StoppedBy = Literal["rule", "budget", "deadline"]


@dataclass(frozen=True)
class Answer:
    """The votes on each input and what they decide.

    `counted` holds the votes, `decisions` the decisions, `met` bool [inputs] where the stopping rule's own condition
    holds. An answer that has not `ended` says how the votes stand.
    """

    counted: CountedVotes
    decisions: Decisions
    met: NDArray[np.bool_]

    @property
    def ended(self) -> bool:
        """No more votes will come."""
        return self.counted.ended

    def stopped_by(self) -> list[StoppedBy | None]:
        """What ended the voting on each input; None: it goes on."""
        unfinished: StoppedBy | None = "deadline" if self.ended else None
        return [
            ("rule" if met else "budget") if complete else unfinished
            for complete, met in zip(self.counted.complete.tolist(), self.met.tolist(), strict=True)
        ]


def answer_of(prepared: Prepared, counted: CountedVotes) -> Answer:
    """Decide on each input by its votes, of which it must have one at least."""
    request, tally = prepared.vote_request, counted.tally
    return Answer(counted, decide(tally, prepared.options.alpha), request.rule.met(tally.histogram, request.votes))
