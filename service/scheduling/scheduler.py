"""Requests become rows, rows of any requests to one session become batches.

Row-level continuous batching: before each batch every waiting request may contribute rows, so a new
request joins the next batch however much of another one is left, and a finished one leaves at once.
Pure: no clock, no threads, no engine; several batches may be under way at the same time, and come
back in any order.

Fairness is deficit round robin (Shreedhar and Varghese 1995) over the requests of a session, with
rows as the unit: each round gives every request a share of a batch in proportion to its priority.
Sessions with waiting rows take turns, a batch each.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.session_key import SessionKey
from noisevote.service.errors import EngineError, OverflowedError, QueueFullError, ServiceError
from noisevote.service.scheduling.batch import Batch, Share
from noisevote.service.scheduling.progress import Progress
from noisevote.service.scheduling.request import VoteRequest
from noisevote.voting.tally import Ballots, Tally


@dataclass(frozen=True)
class QueueLimits:
    """Bounds on what waits: rows not yet counted, and bytes of inputs held for them."""

    rows: int
    bytes: int

    def admit(self, held: tuple[int, int], wanted: tuple[int, int]) -> None:
        """Do nothing where the wanted (rows, bytes) fit beside those that are held already.

        Raises:
            QueueFullError: it does not.
        """
        for what, waiting, more, limit in zip(("rows", "bytes"), held, wanted, (self.rows, self.bytes), strict=True):
            if waiting + more > limit:
                raise QueueFullError(f"queue: {more} {what} more than the {waiting} waiting would pass {limit}")


@dataclass(frozen=True)
class RequestResult:
    """A request that has ended.

    `complete` bool [inputs] tells of which inputs all votes that the rule wanted are counted: all of them,
    unless the request expired or `error` says why not.
    """

    request: VoteRequest
    tally: Tally
    complete: NDArray[np.bool_]
    error: ServiceError | None = None


# Of a batch with more different inputs, too much goes into what their rows cannot share: the layers before the first
# noise, and cutting and counting. With 16 inputs instead of 8 in a batch of 16, a row of mnist-cnn took a tenth longer.
MOST_SHARING: Final = 8

Ring = deque[Progress]
# Takes a ring of requests and a number of rows; allots rows, and removes from the ring who wants no more.
Allotment = Callable[[Ring, int], dict[Progress, int]]


def deficit_round_robin(ring: Ring, max_rows: int) -> dict[Progress, int]:
    """Allot up to `max_rows` rows; requests that want no more leave the ring, the others keep their place in turn.

    As long as no more than MOST_SHARING requests wait, all of them are in every batch.
    """
    quantum = max(1, max_rows // min(len(ring), MOST_SHARING))
    allotted: dict[Progress, int] = {}
    room = max_rows
    while room and ring:
        progress = ring[0]
        open_rows = progress.wanted - allotted.get(progress, 0)
        progress.deficit = progress.deficit or quantum * progress.request.priority
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


class Scheduler:
    """Holds the accepted requests and decides which rows come next.

    `allot` shares a batch out among the requests of a session; another than the default is for comparison.
    """

    def __init__(self, limits: QueueLimits, allot: Allotment = deficit_round_robin) -> None:
        self.limits = limits
        self.rows = 0
        self.bytes = 0
        self._rows_of: Counter[SessionKey] = Counter()
        self._allot = allot
        self._requests: dict[VoteRequest, Progress] = {}
        self._rings: OrderedDict[SessionKey, Ring] = OrderedDict()

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, request: object) -> bool:
        return request in self._requests

    @property
    def rows_of(self) -> Mapping[SessionKey, int]:
        """Rows not yet counted, by session."""
        return self._rows_of

    def add(self, request: VoteRequest) -> None:
        """Accept a request.

        Raises:
            QueueFullError: its rows or bytes do not fit beside what waits already. Nothing changes.
        """
        self.refuse_if_full(request.rows, request.bytes)
        progress = Progress(request)
        self._requests[request] = progress
        self._hold(progress, 1)
        self._join(progress)

    def refuse_if_full(self, rows: int, size: int = 0) -> None:
        """Do nothing where so many rows and bytes fit beside what waits already.

        Raises:
            QueueFullError: they do not.
        """
        self.limits.admit((self.rows, self.bytes), (rows, size))

    def cancel(self, request: VoteRequest) -> None:
        """Forget a request: its rows that are under way will be ignored. Unknown requests are no error."""
        progress = self._requests.pop(request, None)
        if progress is None:
            return
        self._hold(progress, -1)
        ring = self._rings.get(request.session)
        if ring is not None and progress in ring:
            ring.remove(progress)
            self._drop_if_empty(request.session)

    def expire(self, request: VoteRequest) -> RequestResult:
        """End a waiting request with the votes counted so far; the rest is dropped as by `cancel`."""
        return self._finish(self._requests[request])

    def level(self) -> None:
        """From now on give votes to all inputs of a request alike: any may have to be answered as it stands."""
        for progress in self._requests.values():
            progress.anytime = True

    def standing(self, request: VoteRequest) -> tuple[Tally, NDArray[np.bool_]]:
        """The votes of a waiting request counted so far, and which of its inputs are complete: copies."""
        progress = self._requests[request]
        return progress.tally.copy(), progress.complete

    def next_session(self) -> SessionKey | None:
        """The session whose turn it is; None if nothing can be handed out."""
        return next(iter(self._rings), None)

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
        allotted = self._allot(ring, max_rows)
        self._rings.move_to_end(session)
        self._drop_if_empty(session)
        return Batch(session, tuple(progress.issue(rows) for progress, rows in allotted.items()))

    def absorb(self, batch: Batch, ballots: Ballots, sound: NDArray[np.bool_] | None = None) -> list[RequestResult]:
        """Count the votes of a batch; returns the requests that are over by it.

        `sound` bool [rows] says where the model's outputs are finite without noise, so that noise is what spoils them.
        """
        finished: list[RequestResult] = []
        start = 0
        for share in batch.shares:
            rows = slice(start, start + len(share.inputs))
            start = rows.stop
            progress = self._requests.get(share.request)
            if progress is not None:
                own = ballots.of(rows)
                broken = sound is not None and not (own.finite | sound[rows]).all()
                finished += self._count(progress, share, own, broken)
        return finished

    def fail(self, batch: Batch, error: ServiceError) -> list[RequestResult]:
        """End every request with rows in a batch that the engine failed on; all others go on."""
        known = [self._requests[share.request] for share in batch.shares if share.request in self._requests]
        return [self._finish(progress, error) for progress in known]

    def _count(self, progress: Progress, share: Share, ballots: Ballots, broken: bool) -> Iterable[RequestResult]:
        request = share.request
        if broken:
            problem = f"{request.session}: the model's outputs are not finite for this input, even without noise"
            return [self._finish(progress, EngineError(problem))]
        if not ballots.finite.all():
            sigma = max(request.sigma)
            problem = f"sigma: {sigma} (reads folded in): the outputs of {request.session} are not finite"
            return [self._finish(progress, OverflowedError(problem))]
        waiting = progress.wanted > 0
        self.rows -= len(share.inputs)
        self._rows_of[request.session] -= len(share.inputs)
        progress.count(share, ballots)
        if progress.finished:
            return [self._finish(progress)]
        if not waiting and progress.wanted > 0:
            self._join(progress)
        return []

    def _finish(self, progress: Progress, error: ServiceError | None = None) -> RequestResult:
        self.cancel(progress.request)
        return RequestResult(progress.request, progress.tally, progress.complete, error)

    def _hold(self, progress: Progress, sign: int) -> None:
        """Add (sign 1) or take away (sign −1) a request's uncounted rows and bytes."""
        rows, session = sign * progress.uncounted, progress.request.session
        self.rows += rows
        self._rows_of[session] += rows
        self.bytes += sign * progress.request.bytes

    def _join(self, progress: Progress) -> None:
        self._rings.setdefault(progress.request.session, deque()).append(progress)

    def _drop_if_empty(self, session: SessionKey) -> None:
        if not self._rings[session]:
            del self._rings[session]
