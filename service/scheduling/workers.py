"""The threads that compute: each takes the next batch from the scheduler, runs it, and counts its votes.

A worker that is done goes on by itself, under a lock that is held for as long as cutting a batch or counting
one takes, some tenths of a millisecond. So no worker waits for the event loop, which may be reading requests, and
batches are cut at the last moment, so that a new request is in the very next one.
"""

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.session_key import SessionKey
from noisevote.service.errors import EngineError, ServiceError
from noisevote.service.scheduling.batch import Batch
from noisevote.service.scheduling.batch_size import BatchProfile, compute, finite_without_noise
from noisevote.service.scheduling.engine import Engine
from noisevote.service.scheduling.load import Load
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import RequestResult, Scheduler
from noisevote.voting.tally import Ballots, Tally

logger = logging.getLogger(__name__)

# Where less work waits, requests are refused too rarely for it to be worth looking whether one will be.
CROWDED_S: Final = 0.02
CROWDED_SHARE: Final = 1 / 16
# While a worker is about to be done, another one is woken for no less than this. Cutting and counting a batch takes the
# interpreter from the event loop; with fewer and larger batches of short requests it answers a seventh more of them.
QUICK_S: Final = 1e-3
# Whoever runs a batch of less is about to be done.
SOON_S: Final = 3e-3


@dataclass(frozen=True)
class BatchResult:
    """A batch that a worker has run, and the requests that ended with it. Times are in seconds of the clock."""

    batch: Batch
    finished: list[RequestResult]
    began: float
    seconds: float
    failed: bool


class WorkerPool:
    """The threads that run the scheduler's batches. Everything but `start` and `close` may be called at any time."""

    def __init__(
        self, scheduler: Scheduler, engine: Engine, count: int, batch_rows: int, clock: Callable[[], float]
    ) -> None:
        self.count = count
        self._scheduler = scheduler
        self._engine = engine
        self._batch_rows = batch_rows
        self._clock = clock
        self._work = threading.Condition()  # guards what follows, and the scheduler
        self._running = 0  # workers that have a batch in flight
        self._quick: set[int] = set()  # ids of the batches of those that are about to be done
        self._idle = 0  # workers that wait for work; those in no batch that do not wait are about to look for some
        self._called = 0  # of these, how many were woken and have not looked yet
        self._running_of: Counter[SessionKey] = Counter()
        self._closing = False
        self._rows: dict[SessionKey, int] = {}  # of a good batch
        self._most: dict[SessionKey, int] = {}  # of one that is longer because it ends a request
        self._row_s: dict[SessionKey, float] = {}  # seconds that a worker takes for a row, smoothed
        self._pace: dict[SessionKey, float] = {}  # the same in a good batch of an idle server
        self._threads: list[threading.Thread] = []

    def start(self, report: Callable[[BatchResult], None]) -> None:
        """Start the threads, each of which reports every batch that it has run."""
        self._threads = [
            threading.Thread(target=self._run, args=(report,), name=f"worker {number}", daemon=True)
            for number in range(self.count)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads, each after the batch that it has in flight; returns when they have ended."""
        with self._work:
            self._closing = True
            self._work.notify_all()
        for thread in self._threads:
            thread.join()

    def expect(self, profiles: Mapping[SessionKey, BatchProfile]) -> None:
        """Set the batch sizes of sessions by measurement; sessions without one get the largest batches."""
        with self._work:
            self._rows |= {session: min(pace.rows, self._batch_rows) for session, pace in profiles.items()}
            self._most |= {session: min(pace.most_rows, self._batch_rows) for session, pace in profiles.items()}
            self._row_s |= {session: pace.row_s for session, pace in profiles.items()}
            self._pace |= {session: pace.row_s for session, pace in profiles.items()}

    def forget(self, session: SessionKey) -> None:
        """Forget an unloaded session."""
        with self._work:
            self._scheduler.bring_back(session)
            self._running_of.pop(session, None)
            self._rows.pop(session, None)
            self._most.pop(session, None)
            self._row_s.pop(session, None)
            self._pace.pop(session, None)

    def put_away(self, session: SessionKey) -> bool:
        """Run no more batches of a session, whose requests wait from now on; False if some of it is queued or runs."""
        with self._work:
            return not self._running_of[session] and self._scheduler.put_away(session)

    def bring_back(self, session: SessionKey) -> None:
        """Run batches of a session again."""
        with self._work:
            self._scheduler.bring_back(session)
            self._call_idle()

    def give_up(self, session: SessionKey, error: ServiceError) -> list[RequestResult]:
        """See `Scheduler.give_up`."""
        with self._work:
            return self._scheduler.give_up(session, error)

    def add(self, request: VoteRequest) -> None:
        """Accept a request, which idle workers hear of by `wake`; see `Scheduler.add` for errors."""
        with self._work:
            self._scheduler.add(request)

    def wake(self) -> None:
        """Wake as many idle workers as there is work for: each that wakes takes the interpreter from the others."""
        with self._work:
            self._call_idle()

    def _call_idle(self) -> None:
        """Wake as many idle workers as what waits is worth, if those who will soon look for work are not enough."""
        idle = self._idle - self._called
        if idle <= 0:
            return
        soon = len(self._quick) + self._called + self.count - self._running - self._idle
        rows_each = self._rows_in(QUICK_S)
        ready = self._scheduler.ready(enough=idle * rows_each)
        called = min(idle, max(ready // rows_each, ready > 0 and not soon))
        self._called += called
        self._work.notify(called)

    def _rows_in(self, seconds: float) -> int:
        """How many rows of the next batch take at least so long, one where that is not known."""
        session = self._scheduler.next_session()
        pace = None if session is None else self._pace.get(session)
        return math.ceil(seconds / pace) if pace else 1

    def refuse_if_full(self, rows: int) -> None:
        """See `Scheduler.refuse_if_full`."""
        with self._work:
            self._scheduler.refuse_if_full(rows)

    def cancel(self, request: VoteRequest) -> None:
        """Forget a request, if it is not over."""
        with self._work:
            self._scheduler.cancel(request)

    def expire(self, request: VoteRequest) -> RequestResult | None:
        """End a request with the votes counted so far; None if it is over, which then was or will be reported."""
        with self._work:
            return self._scheduler.expire(request) if request in self._scheduler else None

    def level(self) -> None:
        """See `Scheduler.level`."""
        with self._work:
            self._scheduler.level()

    def standing(self, request: VoteRequest) -> tuple[Tally, NDArray[np.bool_]] | None:
        """See `Scheduler.standing`; None as above."""
        with self._work:
            return self._scheduler.standing(request) if request in self._scheduler else None

    @property
    def crowded(self) -> bool:
        """So much waits that a request may well be refused: a share of what is allowed, or what takes a while."""
        queue = self._scheduler
        filled = max(queue.rows / queue.limits.rows, queue.bytes / queue.limits.bytes)
        return filled > CROWDED_SHARE or self.waiting_seconds() > CROWDED_S

    def waiting_seconds(self) -> float:
        """Seconds that all workers together need for the rows that wait."""
        with self._work:
            return self._waiting_seconds()

    def seconds_until_done(self, rows: int) -> float:
        """Seconds that all workers together need for the next `rows` rows, or for all that wait if those are fewer."""
        with self._work:
            return self._waiting_seconds() * min(1.0, rows / max(1, self._scheduler.rows))

    def _waiting_seconds(self) -> float:
        """`waiting_seconds` for callers that hold the lock; 0 as long as nothing was timed."""
        rows_of = self._scheduler.rows_of
        return sum(rows * self._row_s.get(session, 0.0) for session, rows in rows_of.items()) / self.count

    def load(self) -> Load:
        """Count what waits and runs now."""
        with self._work:
            queue = self._scheduler
            return Load(
                requests=len(queue),
                rows=queue.rows,
                rows_limit=queue.limits.rows,
                bytes=queue.bytes,
                bytes_limit=queue.limits.bytes,
                workers=self.count,
                workers_busy=self._running,
            )

    def _run(self, report: Callable[[BatchResult], None]) -> None:
        while (batch := self._take()) is not None:
            report(self._process(batch))

    def _take(self) -> Batch | None:
        """Wait for the next batch; None tells the thread to end."""
        with self._work:
            while not self._closing:
                batch = self._next_batch()
                if batch is not None:
                    self._running += 1
                    self._running_of[batch.session] += 1
                    if len(batch) * self._pace.get(batch.session, math.inf) < SOON_S:
                        self._quick.add(id(batch))
                    self._call_idle()
                    return batch
                self._idle += 1
                self._work.wait()
                self._idle -= 1
                self._called = max(0, self._called - 1)
            return None

    def _next_batch(self) -> Batch | None:
        session = self._scheduler.next_session()
        return None if session is None else self._scheduler.next_batch(*self._rows_of_next_batch(session))

    def _rows_of_next_batch(self, session: SessionKey) -> tuple[int, int]:
        """Rows of a good batch of that session, and of the longest that may be cut instead.

        Where less waits than a good batch for each who was woken, an even share of it: so a small request is spread.
        """
        good, most = self._rows.get(session, self._batch_rows), self._most.get(session, self._batch_rows)
        sharing = 1 + self._called
        waiting = self._scheduler.waiting(enough=sharing * good)
        if waiting >= sharing * good:
            return good, most
        share = max(1, math.ceil(waiting / sharing))
        return share, share

    def _process(self, batch: Batch) -> BatchResult:
        began = self._clock()
        try:
            ballots = compute(self._engine, batch)
            sound = None if ballots.finite.all() else finite_without_noise(self._engine, batch)
            return self._count(batch, ballots, sound, began)
        except Exception as error:
            logger.exception("a batch of %d rows of %s failed", len(batch), batch.session)
            with self._work:
                finished = self._scheduler.fail(batch, EngineError(f"{batch.session}: {type(error).__name__}"))
                return BatchResult(batch, finished, began, self._ended(batch, began), failed=True)

    def _count(self, batch: Batch, ballots: Ballots, sound: NDArray[np.bool_] | None, began: float) -> BatchResult:
        with self._work:  # until the end: whoever hears of the last votes finds the worker idle
            finished = self._scheduler.absorb(batch, ballots, sound)
            return BatchResult(batch, finished, began, self._ended(batch, began), failed=False)

    def _ended(self, batch: Batch, began: float) -> float:
        """Mark the worker as idle, note how long a row took, and return the batch's seconds."""
        seconds = self._clock() - began
        self._running -= 1
        self._quick.discard(id(batch))
        self._running_of[batch.session] -= 1
        before = self._row_s.get(batch.session, seconds / len(batch))
        self._row_s[batch.session] = 0.9 * before + 0.1 * seconds / len(batch)
        return seconds
