"""Replicas in this process, and a dispatcher that spreads requests over them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from itertools import count as counting_up

import numpy as np

from noisevote.service.backends.partition import Standing
from noisevote.service.backends.replica import count
from noisevote.service.backends.replicated import ReplicaLostError, ReplicatedDispatcher, Spreading
from noisevote.service.metrics import Metrics
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import QueueLimits, Scheduler
from noisevote.service.scheduling.ticket import CountedVotes
from noisevote.service.scheduling.workers import WorkerPool
from tests.support.engines import FakeEngine
from tests.support.scheduling import AMPLE, CLASSES

BEAT_S = 0.01
PATIENT = Spreading(part_rows=4, timeout_s=30, silence_s=30)


def clock() -> float:
    """Seconds of the running event loop, which tests can skip ahead."""
    return asyncio.get_running_loop().time()


class Fleet:
    """Replicas in this process, asked in turn. `fate` says before each answer of a replica whether it is lost now."""

    def __init__(self, engines: list[FakeEngine], limits: QueueLimits, fate: Callable[[int], bool]) -> None:
        self.replicas = [
            Dispatcher(WorkerPool(Scheduler(limits), engine, 2, 4, clock=lambda: 0.0), Metrics().observe_batch, clock)
            for engine in engines
        ]
        self.fate = fate
        self.silent: set[int] = set()
        self.asked: list[int] = []
        self._turn = counting_up()

    async def ask(self, part: VoteRequest, deadline_ms: float | None) -> AsyncGenerator[CountedVotes | None]:
        """See `Ask`."""
        number = next(self._turn) % len(self.replicas)
        self.asked.append(number)
        if number in self.silent:
            await asyncio.Event().wait()
        async with aclosing(count(self.replicas[number], part, deadline_ms, BEAT_S)) as answers:
            async for answer in answers:
                if self.fate(number):
                    raise ReplicaLostError(f"replica {number}")
                yield answer


@asynccontextmanager
async def fleet(
    *engines: FakeEngine, limits: QueueLimits = AMPLE, fate: Callable[[int], bool] = lambda _: False
) -> AsyncIterator[Fleet]:
    """Replicas at work; by default two."""
    made = Fleet(list(engines) or [FakeEngine(CLASSES), FakeEngine(CLASSES)], limits, fate)
    for replica in made.replicas:
        replica.start()
    try:
        yield made
    finally:
        for engine in engines:
            engine.may_run.set()
        for replica in made.replicas:
            await replica.close()


@asynccontextmanager
async def spreader(
    replicas: Fleet, spreading: Spreading = PATIENT, limits: QueueLimits = AMPLE
) -> AsyncIterator[ReplicatedDispatcher]:
    """What is tested."""
    made = ReplicatedDispatcher(replicas.ask, limits, spreading, clock)
    made.start()
    try:
        yield made
    finally:
        await made.close()


async def answered(spread: ReplicatedDispatcher, wanted: VoteRequest, deadline_ms: float | None = None) -> CountedVotes:
    """The answer to a request."""
    with spread.accepted(wanted, deadline_ms) as ticket:
        return await ticket.answer()


def same(answer: CountedVotes | Standing, expected: Standing) -> None:
    """Bit for bit."""
    np.testing.assert_array_equal(answer.tally.histogram, expected.tally.histogram)
    np.testing.assert_array_equal(answer.tally.probabilities, expected.tally.probabilities)
    np.testing.assert_array_equal(answer.complete, expected.complete)
