"""Between the event loop and the engine's threads.

Each lane is one thread of the engine. A lane that becomes free takes the next batch from the
scheduler at once; while all of them run, rows gather. Scheduling and counting happen on the event
loop, whose single thread is all the locking there is; building arrays, running the model and
turning logits into votes happen on the lane's thread.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service import votes
from service.batch import Batch, VoteRequest
from service.engine import Engine
from service.errors import DeadlineExceededError, EngineError, QueueFullError
from service.scheduler import Finished, Scheduler
from service.votes import Ballots, Tally

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """The counted votes of a request; seconds from its acceptance to its first batch, and from there to its end.

    `complete` bool [inputs]: all votes that the rule wanted were cast, false only after a deadline.
    """

    tally: Tally
    complete: NDArray[np.bool_]
    queue_s: float
    compute_s: float


class _Ticket:
    """A request that is waited for."""

    def __init__(self, accepted: float, finished: asyncio.Future[Finished]) -> None:
        self.accepted = accepted
        self.started: float | None = None
        self.finished = finished


class Dispatcher:
    """Runs accepted requests to their end. `start` and `close` belong to the event loop that uses it."""

    def __init__(
        self, scheduler: Scheduler, engine: Engine, lanes: int, batch_rows: int, clock: Callable[[], float]
    ) -> None:
        self._scheduler = scheduler
        self._engine = engine
        self._lanes = lanes
        self._batch_rows = batch_rows
        self._clock = clock
        self._tickets: dict[VoteRequest, _Ticket] = {}
        self._work = asyncio.Event()
        self._running = 0  # lanes that have a batch under way
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="lane")
        self._row_s = 0.0  # seconds that a lane takes for a row, smoothed

    def start(self) -> None:
        """Start the lanes."""
        self._tasks = [asyncio.create_task(self._lane(), name=f"lane {lane}") for lane in range(self._lanes)]

    async def close(self) -> None:
        """Stop the lanes, each after the batch that it has under way."""
        self._closing = True
        self._work.set()
        await asyncio.gather(*self._tasks)
        self._threads.shutdown()

    async def vote(self, request: VoteRequest, deadline_ms: float | None = None) -> Answer:
        """All votes of a request, or those counted `deadline_ms` after its acceptance.

        Cancelling drops what is not yet computed, and so does the deadline.

        Raises:
            QueueFullError: there is no room for it; nothing was queued.
            DeadlineExceededError: at the deadline some input had no vote.
            ServiceError: it could not be computed.
        """
        try:
            self._scheduler.add(request)
        except QueueFullError as error:
            raise QueueFullError(str(error), self._seconds_until_room(request)) from None
        ticket = _Ticket(self._clock(), asyncio.get_running_loop().create_future())
        self._tickets[request] = ticket
        self._work.set()
        try:
            finished = await self._finished(request, ticket, deadline_ms)
        finally:
            self._scheduler.cancel(request)
            del self._tickets[request]
        if finished.error is not None:
            raise finished.error
        started = ticket.accepted if ticket.started is None else ticket.started
        return Answer(finished.tally, finished.complete, started - ticket.accepted, self._clock() - started)

    async def _finished(self, request: VoteRequest, ticket: _Ticket, deadline_ms: float | None) -> Finished:
        timeout = None if deadline_ms is None else deadline_ms / 1e3
        done, _ = await asyncio.wait({ticket.finished}, timeout=timeout)
        if done or ticket.finished.done():
            return ticket.finished.result()
        finished = self._scheduler.expire(request)
        without = np.flatnonzero(finished.tally.votes_used == 0)
        if len(without):
            raise DeadlineExceededError(f"deadline_ms: {deadline_ms} passed before inputs[{without[0]}] had a vote")
        return finished

    def _seconds_until_room(self, request: VoteRequest) -> int:
        """When so many rows will have been computed, at the present rate; between 1 second and a minute."""
        return min(60, max(1, math.ceil(request.rows * self._row_s / self._lanes)))

    async def _lane(self) -> None:
        while not self._closing:
            batch = self._scheduler.next_batch(self._rows_of_next_batch())
            if batch is None:
                self._work.clear()
                await self._work.wait()
            else:
                self._running += 1
                await self._process(batch)
                self._running -= 1

    def _rows_of_next_batch(self) -> int:
        """An even share of what waits, so that a small request is spread over all idle lanes; at most a whole batch."""
        idle = self._lanes - self._running
        waiting = self._scheduler.waiting(enough=idle * self._batch_rows)
        return min(self._batch_rows, max(1, math.ceil(waiting / idle)))

    async def _process(self, batch: Batch) -> None:
        began = self._clock()
        self._note_start(batch, began)
        try:
            ballots = await asyncio.get_running_loop().run_in_executor(self._threads, self._compute, batch)
            finished = self._scheduler.absorb(batch, ballots)
        except Exception as error:
            logger.exception("a batch of %d rows of %s failed", len(batch), batch.session)
            finished = self._scheduler.fail(batch, EngineError(f"{batch.session}: {type(error).__name__}"))
        self._work.set()  # a stopping rule may want more votes: enough for the idle lanes too
        self._note_rate((self._clock() - began) / len(batch))
        for each in finished:
            ticket = self._tickets[each.request]
            if not ticket.finished.done():  # its waiter may have been cancelled in this very turn of the loop
                ticket.finished.set_result(each)

    def _compute(self, batch: Batch) -> Ballots:
        """On a lane's thread: nothing here touches the scheduler."""
        logits = self._engine.run(batch.session, batch.feeds())
        if len(logits) != len(batch):  # counted as they are, some votes would be another request's
            raise ValueError(f"{len(logits)} rows of logits for {len(batch)} rows")
        return votes.ballots(logits)

    def _note_start(self, batch: Batch, now: float) -> None:
        for share in batch.shares:
            ticket = self._tickets[share.request]
            ticket.started = now if ticket.started is None else ticket.started

    def _note_rate(self, row_s: float) -> None:
        self._row_s = row_s if self._row_s == 0.0 else 0.9 * self._row_s + 0.1 * row_s
