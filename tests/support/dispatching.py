"""A dispatcher at work on an engine without a network, and requests of one input."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.session_key import SessionKey
from noisevote.service.metrics import Metrics
from noisevote.service.scheduling.batch import Batch, Share
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import QueueLimits, Scheduler
from noisevote.service.scheduling.workers import WorkerPool
from noisevote.voting.stopping import Fixed
from noisevote.voting.tally import ballots, count, empty_tally
from tests.support.engines import FakeEngine, fake_logits

KEY = SessionKey("tiny", "1", "v0")


CLASSES = 3


def request(votes: int = 4, seed: int = 0) -> VoteRequest:
    """A request of one input."""
    return VoteRequest(KEY, np.full((1, 1), 0.5, np.float32), CLASSES, (0.5, 0.0), seed, votes, Fixed())


def alone(wanted: VoteRequest) -> NDArray[np.int64]:
    """Its histogram, computed in one piece."""
    numbers = np.arange(wanted.votes)
    feeds = Batch(KEY, (Share(wanted, np.zeros_like(numbers), numbers),)).feeds()
    tally = empty_tally(1, CLASSES)
    count(tally, np.zeros_like(numbers), ballots(fake_logits(feeds, CLASSES)))
    return tally.histogram


class Clock:
    """A clock that ticks once whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        self.now += 1.0
        return self.now


@asynccontextmanager
async def dispatching(
    engine: FakeEngine, workers: int = 1, batch_rows: int = 4, rows: int = 1000
) -> AsyncIterator[tuple[Dispatcher, Scheduler]]:
    """A dispatcher at work."""
    scheduler = Scheduler(QueueLimits(rows=rows, bytes=10**6))
    clock = Clock()
    dispatcher = Dispatcher(WorkerPool(scheduler, engine, workers, batch_rows, clock), Metrics().observe_batch, clock)
    dispatcher.start()
    try:
        yield dispatcher, scheduler
    finally:
        engine.may_run.set()
        await asyncio.wait_for(dispatcher.close(), 30)


def batch_sizes(engine: FakeEngine) -> list[int]:
    """Rows of each batch that the engine has seen."""
    return [len(feeds.vote) for _, feeds in engine.batches]
