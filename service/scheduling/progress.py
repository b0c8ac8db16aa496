"""How far one request has come: which votes are handed out, which are counted, and what its stopping rule wants."""

import numpy as np
from numpy.typing import NDArray

from noisevote.service.scheduling.batch import Share
from noisevote.service.scheduling.request import VoteRequest
from noisevote.voting.tally import Ballots, count, count_all, empty_tally


class Progress:
    """How far one request has come. All arrays int64 [inputs].

    `asked`: votes wanted so far; `issued`: votes handed out in batches; `counted`: votes come back.
    """

    def __init__(self, request: VoteRequest) -> None:
        inputs = len(request.inputs)
        self.request = request
        self.tally = empty_tally(inputs, request.classes, request.votes if request.keeps_votes else 0)
        self.asked = request.rule.more(self.tally.histogram, request.votes)
        self.issued = np.zeros(inputs, np.int64)
        self.counted = np.zeros(inputs, np.int64)
        self.wanted = int(self.asked.sum())  # rows that could be handed out now
        self.uncounted = request.rows  # rows of the budget that have not come back
        self.in_flight = 0  # rows handed out and not yet back
        self.anytime = request.anytime  # votes go to all inputs alike

    @property
    def finished(self) -> bool:
        """All that its rule wants is counted."""
        return self.wanted == 0 and self.in_flight == 0

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Of which inputs all votes that the rule wanted are counted, bool [inputs]."""
        return np.asarray((self.counted == self.asked) & (self.counted > 0))

    def issue(self, rows: int) -> Share:
        """Hand out the next rows, each input's in the order of its vote numbers."""
        self.wanted -= rows
        self.in_flight += rows
        if len(self.asked) == 1:  # the usual case, and an array operation takes a microsecond
            first_vote = self.request.first_vote + int(self.issued[0])
            self.issued += rows
            return Share(self.request, np.zeros(rows, np.int64), np.arange(first_vote, first_vote + rows))
        need = self.asked - self.issued
        taken = _level(self.issued, need, rows) if self.anytime else _input_after_input(need, rows)
        inputs = np.repeat(np.arange(len(taken)), taken)
        first = self.request.first_vote + self.issued - (np.cumsum(taken) - taken)
        share = Share(self.request, inputs, np.repeat(first, taken) + np.arange(rows))
        self.issued += taken
        return share

    def count(self, share: Share, ballots: Ballots) -> None:
        """Count votes that came back, then ask the rule about every input whose votes are all back."""
        self.in_flight -= len(share.inputs)
        self.uncounted -= len(share.inputs)
        if self.tally.kept is not None:
            self.tally.kept.keep(share.inputs, share.votes - self.request.first_vote, ballots.logits)
        if len(self.asked) == 1:  # as above
            count_all(self.tally, ballots)
            self.counted += len(share.inputs)
            if self.in_flight == self.wanted == 0:
                more = self.request.rule.more(self.tally.histogram, self.request.votes)
                self.asked += more
                self.wanted = int(more[0])
        else:
            count(self.tally, share.inputs, ballots)
            np.add.at(self.counted, share.inputs, 1)
            touched = np.unique(share.inputs)
            settled = touched[self.counted[touched] == self.asked[touched]]
            if len(settled):
                more = self.request.rule.more(self.tally.histogram[settled], self.request.votes)
                self.asked[settled] += more
                self.wanted += int(more.sum())


def _input_after_input(need: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Rows of each input, int64 [inputs]: as many votes as can be share what is computed before the first noise."""
    before = np.cumsum(need) - need
    return np.asarray(np.clip(rows - before, 0, need))


def _level(issued: NDArray[np.int64], need: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Rows of each input, int64 [inputs]: those with fewest votes first, so that whenever it ends each has its part."""
    open_inputs = np.flatnonzero(need)
    if len(open_inputs) > rows:  # one vote more is all that any of them can get
        open_inputs = open_inputs[np.argsort(issued[open_inputs], kind="stable")[:rows]]
    each = np.minimum(need[open_inputs], rows)
    inputs = np.repeat(open_inputs, each)
    votes_of = np.arange(len(inputs)) - np.repeat(np.cumsum(each) - each, each) + issued[inputs]
    chosen = inputs[np.argsort(votes_of, kind="stable")[:rows]]
    return np.bincount(chosen, minlength=len(need)).astype(np.int64)
