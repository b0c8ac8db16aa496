"""Requests become rows, rows of any requests to one session become batches.

Row-level continuous batching: before each batch every waiting request may contribute rows, so a new
request joins the next batch however much of another one is left, and a finished one leaves at once.
Pure: no clock, no threads, no engine; several batches may be under way at the same time, and come
back in any order.

Fairness is deficit round robin (Shreedhar and Varghese 1995) over the requests of a session, with
rows as the unit: each round gives every request an equal share of a batch. Sessions with waiting
rows take turns, a batch each.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service import votes
from service.batch import Batch, SessionKey, Share, VoteRequest
from service.errors import OverflowedError, QueueFullError, ServiceError
from service.votes import Ballots, Tally


@dataclass(frozen=True)
class QueueLimits:
    """Bounds on what waits: rows not yet counted, and bytes of inputs held for them."""

    rows: int
    bytes: int


@dataclass(frozen=True)
class Finished:
    """A request that is over.

    `complete` bool [inputs] tells of which inputs all votes that the rule wanted are counted: all of them,
    unless the request expired or `error` says why not.
    """

    request: VoteRequest
    tally: Tally
    complete: NDArray[np.bool_]
    error: ServiceError | None = None


class _Progress:
    """How far one request has come. All arrays int64 [inputs].

    `asked`: votes wanted so far; `issued`: votes handed out in batches; `counted`: votes come back.
    """

    def __init__(self, request: VoteRequest) -> None:
        inputs = len(request.inputs)
        self.request = request
        self.tally = votes.empty_tally(inputs, request.classes)
        self.asked = request.rule.more(self.tally.histogram, request.votes)
        self.issued = np.zeros(inputs, np.int64)
        self.counted = np.zeros(inputs, np.int64)
        self.wanted = int(self.asked.sum())  # rows that could be handed out now
        self.under_way = 0  # rows handed out and not yet back
        self.deficit = 0  # rows it may still take in this round

    @property
    def finished(self) -> bool:
        return self.wanted == 0 and self.under_way == 0

    @property
    def uncounted(self) -> int:
        """Rows of the budget that have not come back."""
        return self.request.rows - int(self.counted.sum())

    def issue(self, rows: int) -> Share:
        """Hand out the next rows: input after input, each in the order of its vote numbers."""
        need = self.asked - self.issued
        before = np.cumsum(need) - need
        taken = np.clip(rows - before, 0, need)
        inputs = np.repeat(np.arange(len(taken)), taken)
        first = self.issued - (np.cumsum(taken) - taken)
        share = Share(self.request, inputs, np.repeat(first, taken) + np.arange(rows))
        self.issued += taken
        self.wanted -= rows
        self.under_way += rows
        return share

    def count(self, share: Share, ballots: Ballots) -> None:
        """Count votes that came back, then ask the rule about every input whose votes are all back."""
        self.under_way -= len(share.inputs)
        votes.count(self.tally, share.inputs, ballots)
        np.add.at(self.counted, share.inputs, 1)
        touched = np.unique(share.inputs)
        settled = touched[self.counted[touched] == self.asked[touched]]
        more = self.request.rule.more(self.tally.histogram[settled], self.request.votes)
        self.asked[settled] += more
        self.wanted += int(more.sum())


class Scheduler:
    """Holds the accepted requests and decides which rows come next."""

    def __init__(self, limits: QueueLimits) -> None:
        self.limits = limits
        self.rows = 0
        self.bytes = 0
        self._requests: dict[VoteRequest, _Progress] = {}
        self._rings: OrderedDict[SessionKey, deque[_Progress]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: VoteRequest) -> None:
        """Accept a request.

        Raises:
            QueueFullError: its rows or bytes do not fit beside what waits already. Nothing changes.
        """
        for what, held, more, limit in (
            ("rows", self.rows, request.rows, self.limits.rows),
            ("bytes", self.bytes, request.inputs.nbytes, self.limits.bytes),
        ):
            if held + more > limit:
                raise QueueFullError(f"queue: {more} {what} more than the {held} waiting would pass {limit}")
        progress = _Progress(request)
        self._requests[request] = progress
        self.rows += progress.uncounted
        self.bytes += request.inputs.nbytes
        self._join(progress)

    def cancel(self, request: VoteRequest) -> None:
        """Forget a request: its rows that are under way will be ignored. Unknown requests are no error."""
        progress = self._requests.pop(request, None)
        if progress is None:
            return
        self.rows -= progress.uncounted
        self.bytes -= request.inputs.nbytes
        ring = self._rings.get(request.session)
        if ring is not None and progress in ring:
            ring.remove(progress)
            self._drop_if_empty(request.session)

    def expire(self, request: VoteRequest) -> Finished:
        """End a waiting request with the votes counted so far; the rest is dropped as by `cancel`."""
        return self._finish(self._requests[request])

    def waiting(self, enough: int) -> int:
        """Rows that could be handed out now of the session whose turn it is, counted up to about `enough`."""
        rows = 0
        for progress in next(iter(self._rings.values()), ()):
            rows += progress.wanted
            if rows >= enough:
                break
        return rows

    def next_batch(self, max_rows: int) -> Batch | None:
        """At most `max_rows` rows of the session whose turn it is; None if nothing can be handed out."""
        if not self._rings:
            return None
        session, ring = next(iter(self._rings.items()))
        allotted = _deficit_round_robin(ring, max_rows)
        self._rings.move_to_end(session)
        self._drop_if_empty(session)
        return Batch(session, tuple(progress.issue(rows) for progress, rows in allotted.items()))

    def absorb(self, batch: Batch, ballots: Ballots) -> list[Finished]:
        """Count the votes of a batch; returns the requests that are over by it."""
        finished: list[Finished] = []
        start = 0
        for share in batch.shares:
            rows = slice(start, start + len(share.inputs))
            start = rows.stop
            progress = self._requests.get(share.request)
            if progress is not None:
                own = Ballots(ballots.classes[rows], ballots.probabilities[rows], ballots.finite[rows])
                finished += self._count(progress, share, own)
        return finished

    def fail(self, batch: Batch, error: ServiceError) -> list[Finished]:
        """The engine failed on a batch: every request with rows in it is over, all others go on."""
        known = [self._requests[share.request] for share in batch.shares if share.request in self._requests]
        return [self._finish(progress, error) for progress in known]

    def _count(self, progress: _Progress, share: Share, ballots: Ballots) -> Iterable[Finished]:
        request = share.request
        if not ballots.finite.all():
            sigma = max(request.sigma)
            problem = f"sigma: {sigma} (reads folded in): the outputs of {request.session} are not finite"
            return [self._finish(progress, OverflowedError(problem))]
        waiting = progress.wanted > 0
        self.rows -= len(share.inputs)
        progress.count(share, ballots)
        if progress.finished:
            return [self._finish(progress)]
        if not waiting and progress.wanted > 0:
            self._join(progress)
        return []

    def _finish(self, progress: _Progress, error: ServiceError | None = None) -> Finished:
        self.cancel(progress.request)
        complete = (progress.counted == progress.asked) & (progress.counted > 0)
        return Finished(progress.request, progress.tally, complete, error)

    def _join(self, progress: _Progress) -> None:
        self._rings.setdefault(progress.request.session, deque()).append(progress)

    def _drop_if_empty(self, session: SessionKey) -> None:
        if not self._rings[session]:
            del self._rings[session]


def _deficit_round_robin(ring: deque[_Progress], max_rows: int) -> dict[_Progress, int]:
    """Allot up to `max_rows` rows; requests that want no more leave the ring, the others keep their place in turn."""
    quantum = max(1, max_rows // len(ring))
    allotted: dict[_Progress, int] = {}
    room = max_rows
    while room and ring:
        progress = ring[0]
        open_rows = progress.wanted - allotted.get(progress, 0)
        progress.deficit = progress.deficit or quantum
        rows = min(progress.deficit, open_rows, room)
        allotted[progress] = allotted.get(progress, 0) + rows
        progress.deficit -= rows
        room -= rows
        if rows == open_rows:
            progress.deficit = 0
            ring.popleft()
        elif progress.deficit == 0:
            ring.rotate(-1)
    return allotted
