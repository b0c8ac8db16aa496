"""Spreads requests over replicas: splits each into parts, and asks another replica where one is lost.

A part is a pure function of its seed and vote numbers, so asking again repeats the same votes: what a lost replica
had counted is counted once. Knows nothing of how replicas are reached, which `Ask` hides.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from noisevote.service.backends.partition import Part, Standing, merge, split
from noisevote.service.backends.replicated_repository import Control, ReplicatedRepository
from noisevote.service.errors import DeadlineExceededError, DrainingError, EngineError, ServiceError, TimedOutError
from noisevote.service.models.registry import ModelRegistry
from noisevote.service.scheduling.in_flight import InFlight, without_votes
from noisevote.service.scheduling.load import Load
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import QueueLimits, RequestResult
from noisevote.service.scheduling.ticket import CountedVotes, VoteTicket
from noisevote.service.settings import Settings

logger = logging.getLogger(__name__)

# Asking again waits, twice as long each time: whoever routes parts may not yet know who is lost.
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0


class ReplicaLostError(Exception):
    """The replica that was asked will not answer; another may."""


# Asks some replica for the votes of a request, which has so many milliseconds left if it has a deadline. Yields how
# they stand, the whole answer last, and None now and then while it waits. Raises `ReplicaLostError`, and `ServiceError`
# where the replica answered that it cannot. Closing it tells the replica to drop what is not yet computed.
Ask = Callable[[VoteRequest, float | None], AsyncGenerator[CountedVotes | None]]


@dataclass(frozen=True)
class Spreading:
    """How requests are spread.

    `part_rows`: most rows in a part. `timeout_s`: a request without a deadline of its own is answered by then or
    refused. `silence_s`: a replica that says nothing for so long is taken for lost. `parts_at_once`: most parts of a
    request that replicas have at a time, because each is a request to them and has its share beside others.
    """

    part_rows: int
    timeout_s: float
    silence_s: float
    parts_at_once: int = 16


class Gathering:
    """The votes that replicas have told of for one request. `deadline` is in seconds of the clock."""

    def __init__(self, ticket: VoteTicket, parts: tuple[Part, ...], deadline: float | None) -> None:
        self.ticket = ticket
        self.parts = parts
        self.deadline = deadline
        self._standings: list[Standing | None] = [None] * len(parts)

    @property
    def request(self) -> VoteRequest:
        """The whole request."""
        return self.ticket.request

    @property
    def standing(self) -> Standing:
        """The votes of the whole request so far."""
        return merge(self.request, self.parts, self._standings)

    @property
    def uncounted(self) -> int:
        """Votes of the budget that no replica has told of; 0 once the request has ended."""
        told = sum(known.votes for known in self._standings if known is not None)
        return 0 if self.ticket.over else self.request.rows - told

    def note(self, index: int, standing: Standing) -> None:
        """Note the votes of a part. A part that was asked again counts once it has more votes than before."""
        known = self._standings[index]
        if known is None or standing.votes >= known.votes:
            self._standings[index] = standing
            self.ticket.note_count()

    def finished(self, error: ServiceError | None = None) -> RequestResult:
        """End the request with the votes that are known, or with an error."""
        return RequestResult(self.request, *self.standing, error)


class ReplicatedBackend:
    """Replicas, reached by `ask`, and all of them at once by `control`."""

    def __init__(self, settings: Settings, spreading: Spreading, ask: Ask, control: Control) -> None:
        self.description = f"on replicas, in parts of {spreading.part_rows} votes"
        limits = QueueLimits(rows=settings.queue_rows, bytes=settings.queue_bytes)
        self.dispatcher = ReplicatedDispatcher(ask, limits, spreading, time.perf_counter)
        self.repository = ReplicatedRepository(control)

    async def load(self) -> ModelRegistry:
        """Wait until a replica has loaded what it serves."""
        return await self.repository.open()


class ReplicatedDispatcher:
    """Runs accepted requests to their end, as a `Dispatcher` does, on replicas. Belongs to one event loop."""

    def __init__(self, ask: Ask, limits: QueueLimits, spreading: Spreading, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._limits = limits
        self._spreading = spreading
        self._clock = clock
        self._in_flight = InFlight()
        self._gatherings: dict[VoteRequest, Gathering] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def draining(self) -> bool:
        """No more requests are accepted."""
        return self._in_flight.draining

    @property
    def crowded(self) -> bool:
        """Some accepted request is not over: how long the replicas' queues are is not known here."""
        return self._in_flight.busy

    def start(self) -> None:
        """Nothing has to run before the first request."""

    def load(self) -> Load:
        """Count what waits for replicas; nothing is computed here, so there are no workers."""
        rows = sum(gathering.uncounted for gathering in self._gatherings.values())
        limits = self._limits
        return Load(len(self._gatherings), rows, limits.rows, self._bytes(), limits.bytes, workers=0, workers_busy=0)

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more; see `InFlight.drain`."""
        await self._in_flight.drain(grace_s)

    async def close(self) -> None:
        """Tell replicas to drop what they still compute for this."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def accepted(self, request: VoteRequest, deadline_ms: float | None = None) -> Iterator[VoteTicket]:
        """Accept a request; see `VoteDispatcher.accepted`. A replica that refuses a part refuses the whole."""
        self._in_flight.refuse_if_draining()
        self._limits.admit((self._rows(), self._bytes()), (request.rows, request.bytes))
        ticket = VoteTicket(request, self, self._clock)
        deadline = None if deadline_ms is None else self._clock() + deadline_ms / 1e3
        gathering = Gathering(ticket, split(request, self._spreading.part_rows), deadline)
        self._gatherings[request] = gathering
        asking = asyncio.create_task(self._gather(gathering, deadline_ms))
        self._tasks.add(asking)
        asking.add_done_callback(self._tasks.discard)
        self._in_flight.hold(ticket, deadline_ms)
        try:
            yield ticket
        finally:
            asking.cancel()
            del self._gatherings[request]
            self._in_flight.let_go(ticket)

    def expire(self, request: VoteRequest) -> RequestResult | None:
        """See `VoteCounter`."""
        gathering = self._gatherings.get(request)
        return None if gathering is None else gathering.finished()

    def standing(self, request: VoteRequest) -> Standing | None:
        """See `VoteCounter`."""
        gathering = self._gatherings.get(request)
        return None if gathering is None else gathering.standing

    def refuse_if_full(self, rows: int, deadline_ms: float | None) -> None:  # noqa: ARG002  # as of a `Dispatcher`
        """Refuse a request of so many rows as `accepted` would; replicas alone know what they do by a deadline.

        Raises:
            QueueFullError: it would be refused now.
        """
        self._limits.admit((self._rows(), self._bytes()), (rows, 0))

    def _rows(self) -> int:
        return sum(held.rows for held in self._gatherings)

    def _bytes(self) -> int:
        return sum(request.bytes for request in self._gatherings)

    async def _gather(self, gathering: Gathering, deadline_ms: float | None) -> None:
        """Ask for all parts, some at a time; the first error is that of the whole."""
        room = asyncio.Semaphore(self._spreading.parts_at_once)
        timeout_s = self._spreading.timeout_s if deadline_ms is None else None
        try:
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
                for index in range(len(gathering.parts)):
                    group.create_task(self._count(gathering, index, room))
        except TimeoutError:
            problem = TimedOutError(f"no answer from replicas to {gathering.request.session} within {timeout_s:g} s")
            gathering.ticket.finish(gathering.finished(problem))
        except ExceptionGroup as errors:
            gathering.ticket.finish(gathering.finished(_refusal(errors.exceptions[0], gathering.request)))
        else:
            self._end(gathering, deadline_ms)

    def _end(self, gathering: Gathering, deadline_ms: float | None) -> None:
        """End a request whose parts are all answered; a replica's clock may reach the deadline before this one's."""
        if deadline_ms is None or gathering.standing.complete.all():
            gathering.ticket.finish(gathering.finished())
        else:
            gathering.ticket.end(without_votes(deadline_ms))

    async def _count(self, gathering: Gathering, index: int, room: asyncio.Semaphore) -> None:
        """Once there is room, ask for a part until a replica answers."""
        pause_s = FIRST_PAUSE_S
        async with room:
            while True:
                try:
                    return await self._listen(gathering, index)
                except (ReplicaLostError, DrainingError) as error:
                    logger.warning("asking again for votes of %s: %s", gathering.request.session, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _listen(self, gathering: Gathering, index: int) -> None:
        # A request of its own each time: one is told from others by identity, and a replica that was taken for lost
        # may still have rows of the former under way.
        request, asked = replace(gathering.parts[index].request), self._clock()
        left_ms = None if gathering.deadline is None else max(1.0, 1e3 * (gathering.deadline - asked))
        async with aclosing(self._ask(request, left_ms)) as answers:
            while True:
                try:
                    answer = await self._next(answers)
                except DeadlineExceededError:  # the other parts may have votes
                    return
                if answer is None:
                    continue
                gathering.ticket.note_start(asked + answer.queue_s)
                gathering.note(index, Standing(answer.tally, answer.complete))
                if answer.ended and left_ms is None and not answer.complete.all():
                    raise ReplicaLostError("it ended before all votes were counted")
                if answer.ended:
                    return

    async def _next(self, answers: AsyncGenerator[CountedVotes | None]) -> CountedVotes | None:
        try:
            async with asyncio.timeout(self._spreading.silence_s):
                return await anext(answers)
        except TimeoutError:
            raise ReplicaLostError(f"nothing heard for {self._spreading.silence_s:g} s") from None
        except StopAsyncIteration:
            raise ReplicaLostError("it ended without an answer") from None


def _refusal(error: Exception, request: VoteRequest) -> ServiceError:
    """The error of a request, made from that of one of its parts."""
    if isinstance(error, ServiceError):
        return error
    logger.error("a part of %d rows of %s failed", request.rows, request.session, exc_info=error)
    return EngineError(f"{request.session}: {type(error).__name__}")
