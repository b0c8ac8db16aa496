"""Requests under way, on the event loop: what is accepted, when it ends, and who is told.

The lanes' threads do the computing, and report every batch to the event loop.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from noisevote.engine.session_key import SessionKey
from noisevote.service.errors import QueueFullError
from noisevote.service.metrics import Metrics
from noisevote.service.scheduling.batch_size import Pace
from noisevote.service.scheduling.in_flight import UnderWay
from noisevote.service.scheduling.load import Load
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import Answer, Voting
from noisevote.service.scheduling.workers import Done, Lanes

# How much longer than the rows waiting before it a request may take, because later ones share the lanes with it.
# Where equal requests come steadily it is twice as long: each has half of its rows left on average, so twice as
# many requests wait as the rows say. The rest is for requests that are not equal.
SHARING: Final = 3.0


class Dispatcher:
    """Runs accepted requests to their end. All of it belongs to the event loop that calls `start`."""

    def __init__(self, lanes: Lanes, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._lanes = lanes
        self._metrics = metrics
        self._clock = clock
        self._under_way = UnderWay()

    @property
    def draining(self) -> bool:
        """No more requests are accepted."""
        return self._under_way.draining

    @property
    def busy(self) -> bool:
        """Some accepted request is not over."""
        return self._under_way.busy

    def start(self) -> None:
        """Start the lanes."""
        loop = asyncio.get_running_loop()

        def report(done: Done) -> None:
            loop.call_soon_threadsafe(self._tell, done)

        self._lanes.start(report)

    def expect(self, paces: Mapping[SessionKey, Pace]) -> None:
        """Cut batches as was measured."""
        self._lanes.expect(paces)

    def load(self) -> Load:
        """What waits and runs now."""
        return self._lanes.load()

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more; see `UnderWay.drain`."""
        await self._under_way.drain(grace_s)

    async def close(self) -> None:
        """Stop the lanes, each after the batch that it has under way."""
        await asyncio.to_thread(self._lanes.close)
        await asyncio.sleep(0)  # for their last reports

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
        self._under_way.refuse_if_draining()
        self._refuse_hopeless(deadline_ms)
        with self._saying_when(request.rows):
            self._lanes.add(request)
        with self._under_way.hold(Voting(request, self._lanes, self._clock), deadline_ms) as voting:
            try:
                yield voting
            finally:
                self._lanes.cancel(request)

    def refuse_if_full(self, rows: int, deadline_ms: float | None) -> None:
        """Refuse a request of so many rows as `accepted` would, before the effort of decoding it.

        Raises:
            QueueFullError: it would be refused now.
        """
        self._refuse_hopeless(deadline_ms)
        with self._saying_when(rows):
            self._lanes.refuse_if_full(rows)

    @contextmanager
    def _saying_when(self, rows: int) -> Iterator[None]:
        """Where the queue is full, say when so many rows of what waits will be done: then there is room."""
        try:
            yield
        except QueueFullError as error:
            raise QueueFullError(str(error), _whole_seconds(self._lanes.seconds_until_done(rows))) from None

    def _refuse_hopeless(self, deadline_ms: float | None) -> None:
        """Refuse at once what would wait until its deadline, instead of letting it wait and then refusing it."""
        if deadline_ms is None:
            return
        waiting_ms = 1e3 * SHARING * self._lanes.waiting_seconds()
        if waiting_ms > deadline_ms:
            problem = f"deadline_ms: {deadline_ms:g}; what waits before it takes {waiting_ms:.0f} ms"
            raise QueueFullError(problem, _whole_seconds((waiting_ms - deadline_ms) / 1e3))

    def _tell(self, done: Done) -> None:
        """Tell whoever waits for rows of a batch; some may have left meanwhile."""
        self._metrics.batch(done.batch.session, len(done.batch), done.seconds, failed=done.failed)
        for finished in done.finished:
            if (voting := self._under_way.get(finished.request)) is not None:
                voting.note_start(done.began)
                voting.finish(finished)
        for share in done.batch.shares:
            if (voting := self._under_way.get(share.request)) is not None:
                voting.note_start(done.began)
                voting.note_count()


def _whole_seconds(seconds: float) -> int:
    """For `Retry-After`: between a second and a minute."""
    return min(60, max(1, math.ceil(seconds)))
