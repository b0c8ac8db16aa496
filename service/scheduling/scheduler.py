"""Requests become rows, rows of any requests to one session become batches.

Row-level continuous batching: before each batch any waiting request may contribute rows, so a new
one does not wait for the end of another, and a finished one leaves at once.
Pure: no clock, no threads, no engine; several batches may be under way at the same time, and come
back in any order.

Requests of a session are served by weighted fair queueing (`turns.py`). Sessions with waiting rows take turns, a batch
each.

Requests of few rows do not wait for company (`short_first.py`): their rows are cut for themselves, the fewest
first. Every other batch is cut by turns as above, so that others wait for one short batch more, and never for two.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.session_key import SessionKey
from noisevote.service.errors import EngineError, OverflowedError, QueueFullError, ServiceError
from noisevote.service.scheduling.batch import Batch, Share
from noisevote.service.scheduling.progress import Progress
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.short_first import ShortWork
from noisevote.service.scheduling.turns import FairTurns, NewTurns, Turns
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
        (rows, size), (more_rows, more_size) = held, wanted
        if rows + more_rows > self.rows:
            raise QueueFullError(f"queue: {more_rows} rows more than the {rows} waiting would pass {self.rows}")
        if size + more_size > self.bytes:
            raise QueueFullError(f"queue: {more_size} bytes more than the {size} waiting would pass {self.bytes}")


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


class Scheduler:
    """Holds the accepted requests and decides which rows come next.

    `turns` makes what shares batches out among the requests of a session, and with `short_first` short ones have every
    other batch for themselves; others than the defaults are for comparison.
    """

    def __init__(self, limits: QueueLimits, turns: NewTurns = FairTurns, *, short_first: bool = True) -> None:
        self.limits = limits
        self.rows = 0
        self.bytes = 0
        self._rows_of: Counter[SessionKey] = Counter()
        self._new_turns = turns
        self._requests: dict[VoteRequest, Progress] = {}
        self._turns: OrderedDict[SessionKey, Turns] = OrderedDict()
        self._short = ShortWork(enabled=short_first)
        self._parked: dict[SessionKey, list[Progress]] = {}  # of the sessions that are away

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
        if (parked := self._parked.get(request.session)) is not None:
            parked.remove(progress)
            return
        turns = self._turns.get(request.session)
        if turns is not None and progress in turns:
            turns.leave(progress)
            self._short.leave(progress)
            self._drop_if_empty(request.session)

    def put_away(self, session: SessionKey) -> bool:
        """Hand out no rows of a session from now on, until it is `brought_back`; False if it has requests."""
        if self._rows_of[session] > 0:
            return False
        self._parked.setdefault(session, [])
        return True

    def bring_back(self, session: SessionKey) -> None:
        """Hand out rows of a session again; what waited for it joins. A session that is not away is no error."""
        for progress in self._parked.pop(session, ()):
            self._join(progress)

    def give_up(self, session: SessionKey, error: ServiceError) -> list[RequestResult]:
        """End the requests that wait for a session that is away, which stays away."""
        return [self._finish(progress, error) for progress in list(self._parked.get(session, ()))]

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
        """The session of the next batch; None if nothing can be handed out."""
        return self._short.turn(self._turns) or next(iter(self._turns), None)

    def waiting(self, enough: int) -> int:
        """Rows that could be handed out now in batches like the next one, counted up to about `enough`."""
        session = self._short.turn(self._turns)
        first = next(iter(self._turns.values()), ()) if session is None else self._short.of(session)
        rows = 0
        for progress in first:
            rows += progress.wanted
            if rows >= enough:
                break
        return rows

    def ready(self, enough: int) -> int:
        """Rows that could be handed out now, of any session, counted up to about `enough`."""
        rows = 0
        for turns in self._turns.values():
            for progress in turns:
                rows += progress.wanted
                if rows >= enough:
                    return rows
        return rows

    def next_batch(self, rows: int, most: int | None = None) -> Batch | None:
        """About `rows` rows of `next_session`, never more than `most` (default: `rows`); see `FairTurns.allot`.

        None if nothing can be handed out.
        """
        if not self._turns:
            return None
        session = self._short.turn(self._turns)
        if session is not None:
            allotted = self._short.allot(session, self._turns[session], rows)
        else:
            session, turns = next(iter(self._turns.items()))
            allotted = turns.allot(rows, most or rows)
            self._turns.move_to_end(session)
            self._short.wait()
        self._drop_if_empty(session)
        batch = Batch(session, tuple(progress.issue(rows) for progress, rows in allotted.items()))
        for progress in allotted:
            self._short.note(progress)
        return batch

    def absorb(self, batch: Batch, ballots: Ballots, sound: NDArray[np.bool_] | None = None) -> list[RequestResult]:
        """Count the votes of a batch; returns the requests that are over by it.

        `sound` bool [rows] says where the model's outputs are finite without noise, so that noise is what spoils them.
        """
        finished: list[RequestResult] = []
        whole, start = bool(ballots.finite.all()), 0
        for share in batch.shares:
            rows = slice(start, start + len(share.inputs))
            start = rows.stop
            progress = self._requests.get(share.request)
            if progress is not None:
                own = ballots.of(rows) if len(batch.shares) > 1 else ballots
                error = None if whole else _spoiled(share.request, own, None if sound is None else sound[rows])
                finished += self._count(progress, share, own) if error is None else [self._finish(progress, error)]
        return finished

    def fail(self, batch: Batch, error: ServiceError) -> list[RequestResult]:
        """End every request with rows in a batch that the engine failed on; all others go on."""
        known = [self._requests[share.request] for share in batch.shares if share.request in self._requests]
        return [self._finish(progress, error) for progress in known]

    def _count(self, progress: Progress, share: Share, ballots: Ballots) -> Iterable[RequestResult]:
        request = share.request
        waiting = progress.wanted > 0
        self.rows -= len(share.inputs)
        self._rows_of[request.session] -= len(share.inputs)
        progress.count(share, ballots)
        if progress.finished:
            return [self._finish(progress)]
        if not waiting and progress.wanted > 0:
            self._join(progress)
        elif waiting:
            self._short.note(progress)  # its rule may want more votes than it did
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
        session = progress.request.session
        if (parked := self._parked.get(session)) is not None:
            parked.append(progress)
            return
        if session not in self._turns:
            self._turns[session] = self._new_turns()
        self._turns[session].join(progress)
        self._short.note(progress)

    def _drop_if_empty(self, session: SessionKey) -> None:
        if not self._turns[session]:
            del self._turns[session]


def _spoiled(request: VoteRequest, own: Ballots, sound: NDArray[np.bool_] | None) -> ServiceError | None:
    """What ends a request some of whose votes are not finite; None: all are."""
    if sound is not None and not (own.finite | sound).all():
        return EngineError(f"{request.session}: the model's outputs are not finite for this input, even without noise")
    if own.finite.all():
        return None
    sigma = max(request.sigma)
    return OverflowedError(f"sigma: {sigma} (reads folded in): the outputs of {request.session} are not finite")
