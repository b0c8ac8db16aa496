"""Between the event loop and the engine's threads.

Each lane is one thread of the engine. A lane that becomes free takes the next batch from the
scheduler at once; while all of them run, rows gather. Scheduling and counting happen on the event
loop, whose single thread is all the locking there is; building arrays, running the model and
turning logits into votes happen on the lane's thread.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from service.batch import Batch, SessionKey, VoteRequest
from service.engine import Engine
from service.errors import DeadlineExceededError, DrainingError, EngineError, QueueFullError
from service.metrics import Load, Metrics
from service.pace import Pace, compute
from service.scheduler import Scheduler
from service.voting import Answer, Voting

logger = logging.getLogger(__name__)

# How much longer than the rows waiting before it a request may take, because later ones share the lanes with it.
# Where equal requests come steadily it is twice as long: each has half of its rows left on average, so twice as
# many requests wait as the rows say. The rest is for requests that are not equal.
SHARING: Final = 3.0


class Dispatcher:
    """Runs accepted requests to their end. `start` and `close` belong to the event loop that uses it."""

    def __init__(
        self,
        scheduler: Scheduler,
        engine: Engine,
        metrics: Metrics,
        lanes: int,
        batch_rows: int,
        clock: Callable[[], float],
    ) -> None:
        self._scheduler = scheduler
        self._engine = engine
        self._metrics = metrics
        self._lanes = lanes
        self._batch_rows = batch_rows
        self._clock = clock
        self._votings: dict[VoteRequest, Voting] = {}
        self._work = asyncio.Event()
        self._emptied = asyncio.Event()
        self._running = 0  # lanes that have a batch under way
        self._draining = False
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="lane")
        self._rows: dict[SessionKey, int] = {}  # of a good batch
        self._row_s: dict[SessionKey, float] = {}  # seconds that a lane takes for a row, smoothed

    @property
    def draining(self) -> bool:
        """No more requests are accepted."""
        return self._draining

    def start(self) -> None:
        """Start the lanes."""
        self._tasks = [asyncio.create_task(self._lane(), name=f"lane {lane}") for lane in range(self._lanes)]

    def expect(self, paces: Mapping[SessionKey, Pace]) -> None:
        """Cut batches as was measured; sessions without a measurement get the largest ones."""
        self._rows |= {session: min(pace.rows, self._batch_rows) for session, pace in paces.items()}
        self._row_s |= {session: pace.row_s for session, pace in paces.items()}

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more; returns once all that was accepted is over, after `grace_s` with the votes so far."""
        self._draining = True
        try:
            async with asyncio.timeout(grace_s):
                while self._votings:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            logger.warning("draining: %d requests ended after %s s with the votes so far", len(self._votings), grace_s)
            for voting in list(self._votings.values()):
                voting.end(lambda index: DrainingError(f"draining: the server ends before inputs[{index}] had a vote"))

    async def close(self) -> None:
        """Stop the lanes, each after the batch that it has under way."""
        self._closing = True
        self._work.set()
        await asyncio.gather(*self._tasks)
        self._threads.shutdown()

    def load(self) -> Load:
        """What waits and runs now."""
        queue = self._scheduler
        return Load(
            requests=len(queue),
            rows=queue.rows,
            rows_limit=queue.limits.rows,
            bytes=queue.bytes,
            bytes_limit=queue.limits.bytes,
            lanes=self._lanes,
            lanes_busy=self._running,
        )

    async def vote(self, request: VoteRequest, deadline_ms: float | None = None) -> Answer:
        """Accept a request and wait for its answer; see `accepted` and `Voting.answer` for errors."""
        with self.accepted(request, deadline_ms) as voting:
            return await voting.answer()

    @contextmanager
    def accepted(self, request: VoteRequest, deadline_ms: float | None = None) -> Iterator[Voting]:
        """A request in the queue. Leaving drops what is not yet computed; `deadline_ms` after now it ends as it stands.

        Raises:
            DrainingError: the server is about to end.
            QueueFullError: there is no room for it, or what waits takes until its deadline; nothing was queued.
            DeadlineExceededError: (from the voting) at the deadline some input had no vote.
        """
        if self._draining:
            raise DrainingError("draining: the server finishes what it has accepted, and ends")
        self._refuse_hopeless(deadline_ms)
        try:
            self._scheduler.add(request)
        except QueueFullError as error:
            raise QueueFullError(
                str(error), _whole_seconds(self._row_seconds(request.session) * request.rows)
            ) from None
        voting = self._votings[request] = Voting(request, self._scheduler, self._clock)
        expiry = None if deadline_ms is None else _expire_later(voting, deadline_ms)
        self._work.set()
        try:
            yield voting
        finally:
            if expiry is not None:
                expiry.cancel()
            self._scheduler.cancel(request)
            del self._votings[request]
            if not self._votings:
                self._emptied.set()

    def _refuse_hopeless(self, deadline_ms: float | None) -> None:
        """Refuse at once what would wait until its deadline, instead of letting it wait and then refusing it."""
        if deadline_ms is None:
            return
        waiting = self._scheduler.rows_of
        waiting_ms = 1e3 * SHARING * sum(rows * self._row_seconds(session) for session, rows in waiting.items())
        if waiting_ms > deadline_ms:
            problem = f"deadline_ms: {deadline_ms:g}; what waits before it takes {waiting_ms:.0f} ms"
            raise QueueFullError(problem, _whole_seconds((waiting_ms - deadline_ms) / 1e3))

    def _row_seconds(self, session: SessionKey) -> float:
        """Seconds of all lanes together for a row; 0 as long as nothing was timed."""
        return self._row_s.get(session, 0.0) / self._lanes

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
        """An even share of what waits, so that a small request is spread over all idle lanes; at most a good batch."""
        session = self._scheduler.next_session()
        most = self._batch_rows if session is None else self._rows.get(session, self._batch_rows)
        idle = self._lanes - self._running
        waiting = self._scheduler.waiting(enough=idle * most)
        return min(most, max(1, math.ceil(waiting / idle)))

    async def _process(self, batch: Batch) -> None:
        began, failed = self._clock(), False
        for share in batch.shares:
            self._votings[share.request].note_start(began)
        try:
            ballots = await asyncio.get_running_loop().run_in_executor(self._threads, compute, self._engine, batch)
            finished = self._scheduler.absorb(batch, ballots)
        except Exception as error:
            logger.exception("a batch of %d rows of %s failed", len(batch), batch.session)
            failed = True
            finished = self._scheduler.fail(batch, EngineError(f"{batch.session}: {type(error).__name__}"))
        self._work.set()  # a stopping rule may want more votes: enough for the idle lanes too
        seconds = self._clock() - began
        self._metrics.batch(batch.session, len(batch), seconds, failed=failed)
        self._note_rate(batch.session, seconds / len(batch))
        for each in finished:
            self._votings[each.request].finish(each)
        for share in batch.shares:
            if (voting := self._votings.get(share.request)) is not None:
                voting.note_count()

    def _note_rate(self, session: SessionKey, row_s: float) -> None:
        before = self._row_s.get(session)
        self._row_s[session] = row_s if before is None else 0.9 * before + 0.1 * row_s


def _expire_later(voting: Voting, deadline_ms: float) -> asyncio.TimerHandle:
    def expired(index: int) -> DeadlineExceededError:
        return DeadlineExceededError(f"deadline_ms: {deadline_ms:g} passed before inputs[{index}] had a vote")

    return asyncio.get_running_loop().call_later(deadline_ms / 1e3, voting.end, expired)


def _whole_seconds(seconds: float) -> int:
    """For `Retry-After`: between a second and a minute."""
    return min(60, max(1, math.ceil(seconds)))
