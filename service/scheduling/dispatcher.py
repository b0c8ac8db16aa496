"""Runs accepted requests to their end, on the event loop; the worker threads compute and report every batch to it."""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from noisevote.engine.session_key import SessionKey
from noisevote.service.errors import QueueFullError, ServiceError
from noisevote.service.scheduling.batch_size import BatchProfile
from noisevote.service.scheduling.in_flight import InFlight
from noisevote.service.scheduling.load import Load
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import CountedVotes, VoteTicket
from noisevote.service.scheduling.workers import BatchResult, WorkerPool

# How much longer than the rows waiting before it a request may take, because later ones share the workers with it.
# Where equal requests come steadily it is twice as long: each has half of its rows left on average, so twice as
# many requests wait as the rows say. The rest is for requests that are not equal.
SHARING: Final = 3.0


class Dispatcher:
    """Runs accepted requests to their end. All of it belongs to the event loop that calls `start`.

    `observe` is told of every batch.
    """

    def __init__(self, workers: WorkerPool, observe: Callable[[BatchResult], None], clock: Callable[[], float]) -> None:
        self._workers = workers
        self._observe = observe
        self._clock = clock
        self._in_flight = InFlight()
        self._waking = False  # workers will be woken at the event loop's next turn
        self._used: Callable[[SessionKey], None] | None = None

    @property
    def draining(self) -> bool:
        """No more requests are accepted."""
        return self._in_flight.draining

    @property
    def crowded(self) -> bool:
        """See `WorkerPool.crowded`."""
        return self._workers.crowded

    def start(self) -> None:
        """Start the workers."""
        loop = asyncio.get_running_loop()

        def report(done: BatchResult) -> None:
            loop.call_soon_threadsafe(self._tell, done)

        self._workers.start(report)

    def expect(self, profiles: Mapping[SessionKey, BatchProfile]) -> None:
        """Set the batch sizes that were measured when the models were loaded."""
        self._workers.expect(profiles)

    def forget(self, session: SessionKey) -> None:
        """Forget an unloaded session."""
        self._workers.forget(session)

    def tell_of_use(self, used: Callable[[SessionKey], None]) -> None:
        """Let `used` be told the session of each accepted request, which may be one that was put away."""
        self._used = used

    def put_away(self, session: SessionKey) -> bool:
        """Let requests to a session wait from now on; False, and nothing changes, if votes of it are queued."""
        return self._workers.put_away(session)

    def bring_back(self, session: SessionKey) -> None:
        """Go on with a session that was put away."""
        self._workers.bring_back(session)

    def give_up(self, session: SessionKey, error: ServiceError) -> None:
        """End the requests that wait for a session that is away."""
        for finished in self._workers.give_up(session, error):
            if (ticket := self._in_flight.get(finished.request)) is not None:
                ticket.finish(finished)

    def load(self) -> Load:
        """What waits and runs now."""
        return self._workers.load()

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more, and let no input be without votes at the end; see `InFlight.drain`."""
        self._workers.level()
        await self._in_flight.drain(grace_s)

    async def close(self) -> None:
        """Stop the workers, each after the batch that it has in flight."""
        await asyncio.to_thread(self._workers.close)
        await asyncio.sleep(0)  # for their last reports

    async def vote(self, request: VoteRequest, deadline_ms: float | None = None) -> CountedVotes:
        """Accept a request and wait for its answer; see `accepted` and `VoteTicket.answer` for errors."""
        with self.accepted(request, deadline_ms) as ticket:
            return await ticket.answer()

    @contextmanager
    def accepted(self, request: VoteRequest, deadline_ms: float | None = None) -> Iterator[VoteTicket]:
        """A request in the queue. Leaving drops what is not yet computed; `deadline_ms` after now it ends as it stands.

        Raises:
            DrainingError: the server is about to end.
            QueueFullError: there is no room for it, or what waits takes until its deadline; nothing was queued.
            DeadlineExceededError: (from the ticket) at the deadline some input had no vote.
        """
        self._in_flight.refuse_if_draining()
        self._refuse_hopeless(deadline_ms)
        try:
            self._workers.add(request)
        except QueueFullError as error:
            raise self._when_to_retry(error, request.rows) from None
        self._wake_soon()
        ticket = VoteTicket(request, self._workers, self._clock)
        self._in_flight.hold(ticket, deadline_ms)
        try:
            if self._used is not None:
                self._used(request.session)
            yield ticket
        finally:
            self._workers.cancel(request)
            self._in_flight.let_go(ticket)

    def refuse_if_full(self, rows: int, deadline_ms: float | None) -> None:
        """Refuse a request of so many rows as `accepted` would, before the effort of decoding it.

        Raises:
            QueueFullError: it would be refused now.
        """
        self._refuse_hopeless(deadline_ms)
        try:
            self._workers.refuse_if_full(rows)
        except QueueFullError as error:
            raise self._when_to_retry(error, rows) from None

    def _when_to_retry(self, error: QueueFullError, rows: int) -> QueueFullError:
        """The same error, with when to come back: once so many waiting rows are done, there is room."""
        return QueueFullError(str(error), _whole_seconds(self._workers.seconds_until_done(rows)))

    def _wake_soon(self) -> None:
        """Wake workers once the event loop has read whatever else has come: it makes one batch of it then."""
        if not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        self._waking = False
        self._workers.wake()

    def _refuse_hopeless(self, deadline_ms: float | None) -> None:
        """Refuse a request at once whose deadline would pass while it waits."""
        if deadline_ms is None:
            return
        waiting_ms = 1e3 * SHARING * self._workers.waiting_seconds()
        if waiting_ms > deadline_ms:
            problem = f"deadline_ms: {deadline_ms:g}; what waits before it takes {waiting_ms:.0f} ms"
            raise QueueFullError(problem, _whole_seconds((waiting_ms - deadline_ms) / 1e3))

    def _tell(self, done: BatchResult) -> None:
        """Tell whoever waits for rows of a batch; some may have left meanwhile."""
        self._observe(done)
        for finished in done.finished:
            if (ticket := self._in_flight.get(finished.request)) is not None:
                ticket.note_start(done.began)
                ticket.finish(finished)
        for share in done.batch.shares:
            if (ticket := self._in_flight.get(share.request)) is not None:
                ticket.note_start(done.began)
                ticket.note_count()


def _whole_seconds(seconds: float) -> int:
    """For `Retry-After`: between a second and a minute."""
    return min(60, max(1, math.ceil(seconds)))
