import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.engine.session_key import SessionKey
from noisevote.service.errors import (
    ClientLeftError,
    QueueFullError,
)
from noisevote.service.scheduling.batch_size import BatchProfile
from tests.support.dispatching import KEY, alone, batch_sizes, dispatching, request
from tests.support.engines import FakeEngine, until


async def test_an_idle_engine_starts_at_once_and_rows_gather_while_it_runs() -> None:
    """The first request does not wait for company; those that come meanwhile share the next batch."""
    engine = FakeEngine()
    engine.may_run.clear()
    async with dispatching(engine) as (dispatcher, scheduler):
        first = asyncio.create_task(dispatcher.vote(request(votes=1)))
        await until(lambda: len(engine.batches) == 1)
        others = [asyncio.create_task(dispatcher.vote(request(votes=1, seed=seed))) for seed in (1, 2, 3)]
        await until(lambda: len(scheduler) == 4)
        assert batch_sizes(engine) == [1]
        engine.may_run.set()
        await asyncio.gather(first, *others)
    assert batch_sizes(engine) == [1, 3]


@pytest.mark.parametrize("workers", [1, 3])
async def test_many_requests_at_once_get_their_own_votes(workers: int) -> None:
    """Whichever worker computes which rows."""
    requests = [request(votes=1 + seed % 9, seed=seed) for seed in range(40)]
    async with dispatching(FakeEngine(), workers) as (dispatcher, scheduler):
        answers = await asyncio.gather(*(dispatcher.vote(each) for each in requests))
        assert (len(scheduler), scheduler.rows, scheduler.bytes) == (0, 0, 0)
    for wanted, answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer.tally.histogram, alone(wanted))


async def test_one_row_each_of_two_sessions_is_for_two_workers() -> None:
    """As many idle workers are woken as there are rows, whatever they are of."""
    engine = FakeEngine()
    engine.may_run.clear()
    async with dispatching(engine, workers=3) as (dispatcher, _):
        sessions = [KEY, KEY._replace(variant="other")]
        asked = [asyncio.create_task(dispatcher.vote(replace(request(votes=1), session=each))) for each in sessions]
        await until(lambda: len(engine.batches) == 2)
        assert batch_sizes(engine) == [1, 1]
        engine.may_run.set()
        await asyncio.gather(*asked)


async def test_what_waits_is_shared_evenly_by_idle_workers() -> None:
    """A request smaller than the workers' batches together is computed by all of them, in equal parts."""
    engine = FakeEngine()
    engine.may_run.clear()
    async with dispatching(engine, workers=2, batch_rows=16) as (dispatcher, _):
        first = asyncio.create_task(dispatcher.vote(request(votes=20)))
        await until(lambda: len(engine.batches) == 2)
        assert batch_sizes(engine) == [10, 10]
        engine.may_run.set()
        await first


async def test_a_single_idle_worker_takes_a_whole_batch() -> None:
    """While the other worker is busy there is nobody to share with."""
    engine = FakeEngine()
    engine.may_run.clear()
    async with dispatching(engine, workers=2, batch_rows=16) as (dispatcher, _):
        waiting = [asyncio.create_task(dispatcher.vote(request(votes=1)))]
        await until(lambda: len(engine.batches) == 1)
        waiting.append(asyncio.create_task(dispatcher.vote(request(votes=20))))
        await until(lambda: len(engine.batches) == 2)
        assert batch_sizes(engine) == [1, 16]
        engine.may_run.set()
        await asyncio.gather(*waiting)


class Crowded(FakeEngine):
    """Counts the runs that are under way at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def run(self, key: SessionKey, feeds: Feeds) -> NDArray[np.float32]:
        """See `Engine.run`."""
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return super().run(key, feeds)
        finally:
            with self._lock:
                self.running -= 1


async def test_workers_compute_at_the_same_time() -> None:
    """Two workers hold two batches; in all of the work the engine never sees a third beside them."""
    engine = Crowded()
    engine.may_run.clear()
    async with dispatching(engine, workers=2) as (dispatcher, _):
        waiting = asyncio.create_task(dispatcher.vote(request(votes=100)))
        await until(lambda: len(engine.batches) == 2)
        assert batch_sizes(engine) == [4, 4]
        engine.may_run.set()
        assert (await waiting).tally.votes_used.tolist() == [100]
    assert engine.most == 2


async def test_a_cancelled_request_leaves_nothing_behind() -> None:
    """Its remaining rows are not computed, and the next request is answered."""
    engine = FakeEngine()
    engine.may_run.clear()
    async with dispatching(engine) as (dispatcher, scheduler):
        gone = asyncio.create_task(dispatcher.vote(request(votes=1000)))
        await until(lambda: len(engine.batches) == 1)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert (len(scheduler), scheduler.rows) == (0, 0)
        engine.may_run.set()
        await dispatcher.vote(request(votes=2))
    assert batch_sizes(engine) == [4, 2]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    """Before any batch has been timed the advice is a second; afterwards it follows the measured rate."""
    engine = FakeEngine()
    engine.may_run.clear()
    async with dispatching(engine, rows=20) as (dispatcher, _):
        first = asyncio.create_task(dispatcher.vote(request(votes=16)))
        await until(lambda: len(engine.batches) == 1)
        with pytest.raises(QueueFullError, match="rows") as early:
            await dispatcher.vote(request(votes=8))
        assert early.value.headers == {"Retry-After": "1"}
        engine.may_run.set()
        await first
        engine.may_run.clear()
        second = asyncio.create_task(dispatcher.vote(request(votes=16)))
        await until(lambda: len(engine.batches) == 5)
        with pytest.raises(QueueFullError) as late:
            await dispatcher.vote(request(votes=8))
        assert late.value.retry_after_s > 1  # each batch of 4 rows took at least a tick of the clock
        engine.may_run.set()
        await second


async def test_times_are_those_of_the_clock() -> None:
    """Queueing ends with the first batch, computing with the last."""
    async with dispatching(FakeEngine()) as (dispatcher, _):
        answer = await dispatcher.vote(request(votes=12))
    assert answer.queue_s >= 1
    assert answer.compute_s >= 3  # three batches, each between two readings


async def test_the_event_loop_turns_while_the_engine_runs() -> None:
    """The model runs on threads of its own."""
    seen: list[str] = []

    class Observed(FakeEngine):
        def run(self, key: SessionKey, feeds: Feeds) -> NDArray[np.float32]:
            seen.append(threading.current_thread().name)
            return super().run(key, feeds)

    engine = Observed()
    engine.may_run.clear()
    async with dispatching(engine) as (dispatcher, _):
        waiting = asyncio.create_task(dispatcher.vote(request()))
        await until(lambda: bool(seen))
        engine.may_run.set()
        await waiting
    assert all(name.startswith("worker") for name in seen)


async def test_batches_have_the_measured_size() -> None:
    """Where it was measured, and within the limit."""
    engine = FakeEngine()
    async with dispatching(engine, batch_rows=4) as (dispatcher, _):
        for rows in (3, 7):
            dispatcher.expect({KEY: BatchProfile(rows=rows, row_s=0.1, curve=())})
            await dispatcher.vote(request(votes=12))
    assert batch_sizes(engine) == [3, 3, 3, 3, 4, 4, 4]


async def test_an_abandoned_request_is_dropped_within_a_batch() -> None:
    """What was not handed out never will be; whoever waits is told, and batch-mates lose nothing."""
    engine = FakeEngine()
    engine.may_run.clear()
    mate = request(votes=6, seed=1)
    async with dispatching(engine, rows=2000) as (dispatcher, scheduler):
        with dispatcher.accepted(request(votes=1000)) as ticket:
            await until(lambda: len(engine.batches) == 1)
            other = asyncio.create_task(dispatcher.vote(mate))
            await until(lambda: len(scheduler) == 2)
            ticket.abandon()
            ticket.abandon()
            assert scheduler.rows == 6
            with pytest.raises(ClientLeftError):
                await ticket.answer()
        engine.may_run.set()
        np.testing.assert_array_equal((await other).tally.histogram, alone(mate))
    assert sum(batch_sizes(engine)) == 4 + 6
