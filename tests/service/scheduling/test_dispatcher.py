import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.engine.session_key import SessionKey
from noisevote.service.errors import (
    ClientLeftError,
    DeadlineExceededError,
    DrainingError,
    EngineError,
    OverflowedError,
    QueueFullError,
)
from noisevote.service.metrics import Metrics
from noisevote.service.scheduling.batch import Batch, Share
from noisevote.service.scheduling.batch_size import BatchProfile
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import QueueLimits, Scheduler
from noisevote.service.scheduling.workers import WorkerPool
from noisevote.voting.stopping import Fixed
from noisevote.voting.tally import ballots, count, empty_tally
from tests.support.engines import FakeEngine, Slow, fake_logits, skip_ahead, until

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


async def test_an_engine_error_reaches_the_requests_of_its_batch_and_no_others() -> None:
    """The broken request is told; the one before and the one after are answered."""
    engine = FakeEngine()
    engine.failing_votes = {5}
    async with dispatching(engine) as (dispatcher, scheduler):
        assert (await dispatcher.vote(request(votes=5))).tally.votes_used.tolist() == [5]
        with pytest.raises(EngineError, match="RuntimeError"):
            await dispatcher.vote(request(votes=9))
        whole = request(votes=5, seed=3)
        np.testing.assert_array_equal((await dispatcher.vote(whole)).tally.histogram, alone(whole))
        assert len(scheduler) == 0


async def test_missing_rows_are_an_engine_error() -> None:
    """Logits that cannot be told apart by row are given to nobody."""

    class Short(FakeEngine):
        def run(self, key: SessionKey, feeds: Feeds) -> NDArray[np.float32]:
            return super().run(key, feeds)[:-1]

    async with dispatching(Short(), batch_rows=8) as (dispatcher, scheduler):
        answers = [dispatcher.vote(request(votes=2, seed=seed)) for seed in (1, 2)]
        errors = await asyncio.gather(*answers, return_exceptions=True)
        assert len(scheduler) == 0
    assert [type(error) for error in errors] == [EngineError, EngineError]


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


async def test_closing_waits_for_the_batch_under_way() -> None:
    """What was handed to the engine is counted before the threads end."""
    engine = FakeEngine()
    async with dispatching(engine) as (dispatcher, _):
        waiting = asyncio.create_task(dispatcher.vote(request(votes=4)))
        await until(lambda: len(engine.batches) == 1)
    assert (await waiting).tally.votes_used.tolist() == [4]


async def test_at_the_deadline_the_votes_so_far_are_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marked incomplete; what waits is dropped, what is under way ignored, and the next request is served."""
    engine = Slow(batches=2)
    async with dispatching(engine) as (dispatcher, scheduler):
        ticket = asyncio.create_task(dispatcher.vote(request(votes=1000), deadline_ms=60_000))
        await until(lambda: len(engine.batches) == 3)
        skip_ahead(monkeypatch, 61)
        answer = await ticket
        assert answer.tally.votes_used.tolist() == [8]
        np.testing.assert_array_equal(answer.tally.histogram, alone(request(votes=8)))
        assert answer.complete.tolist() == [False]
        assert (len(scheduler), scheduler.rows, scheduler.bytes) == (0, 0, 0)
        engine.may_run.set()
        assert (await dispatcher.vote(request(votes=2))).complete.tolist() == [True]
    assert batch_sizes(engine) == [4, 4, 4, 2]


async def test_inputs_that_ended_before_the_deadline_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Completeness is each input's own."""
    two = VoteRequest(KEY, np.full((2, 1), 0.5, np.float32), CLASSES, (0.5, 0.0), 0, 3, Fixed())
    engine = Slow(batches=1)
    async with dispatching(engine) as (dispatcher, _):
        ticket = asyncio.create_task(dispatcher.vote(two, deadline_ms=60_000))
        await until(lambda: len(engine.batches) == 2)
        skip_ahead(monkeypatch, 61)
        answer = await ticket
    assert answer.tally.votes_used.tolist() == [3, 1]
    assert answer.complete.tolist() == [True, False]


async def test_a_deadline_before_the_first_vote_is_an_error() -> None:
    """It names the deadline and an input without a vote; nothing stays behind."""
    async with dispatching(Slow(batches=0)) as (dispatcher, scheduler):
        with pytest.raises(DeadlineExceededError, match=r"deadline_ms: 20 passed before inputs\[0\] had a vote"):
            await dispatcher.vote(request(votes=5), deadline_ms=20)
        assert (len(scheduler), scheduler.rows) == (0, 0)


async def test_a_deadline_that_is_not_reached_changes_nothing() -> None:
    """The whole answer comes as soon as it is there."""
    async with dispatching(FakeEngine()) as (dispatcher, _):
        answer = await dispatcher.vote(request(votes=9), deadline_ms=60_000)
    np.testing.assert_array_equal(answer.tally.histogram, alone(request(votes=9)))
    assert answer.complete.tolist() == [True]


async def test_what_would_wait_until_its_deadline_is_refused_at_once() -> None:
    """As soon as a batch was timed, by what waits before it; without a deadline, or with a long one, it may wait."""
    engine = FakeEngine()
    engine.may_run.clear()
    async with dispatching(engine) as (dispatcher, scheduler):
        dispatcher.expect({KEY: BatchProfile(rows=4, row_s=0.5, curve=())})
        first = asyncio.create_task(dispatcher.vote(request(votes=8)))
        await until(lambda: len(engine.batches) == 1)
        with pytest.raises(QueueFullError, match=r"deadline_ms: 11900; what waits before it takes 12000 ms") as refused:
            await dispatcher.vote(request(votes=1000), deadline_ms=11900)
        assert refused.value.retry_after_s == 1
        assert len(scheduler) == 1
        others = [asyncio.create_task(dispatcher.vote(request(votes=2), deadline)) for deadline in (12100, None)]
        await until(lambda: len(scheduler) == 3)
        engine.may_run.set()
        await asyncio.gather(first, *others)


async def test_batches_have_the_measured_size() -> None:
    """Where it was measured, and within the limit."""
    engine = FakeEngine()
    async with dispatching(engine, batch_rows=4) as (dispatcher, _):
        for rows in (3, 7):
            dispatcher.expect({KEY: BatchProfile(rows=rows, row_s=0.1, curve=())})
            await dispatcher.vote(request(votes=12))
    assert batch_sizes(engine) == [3, 3, 3, 3, 4, 4, 4]


async def test_draining_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    """However many batches that takes; it returns when the last one is over."""
    engine = FakeEngine()
    engine.may_run.clear()
    async with dispatching(engine) as (dispatcher, _):
        accepted = [asyncio.create_task(dispatcher.vote(request(votes=30, seed=seed))) for seed in range(3)]
        await until(lambda: bool(engine.batches))
        draining = asyncio.create_task(dispatcher.drain(grace_s=60))
        await until(lambda: dispatcher.draining)
        with pytest.raises(DrainingError) as refused:
            await dispatcher.vote(request())
        assert refused.value.headers["Connection"] == "close"
        assert not draining.done()
        engine.may_run.set()
        await draining
        for seed, ticket in enumerate(accepted):
            np.testing.assert_array_equal((await ticket).tally.histogram, alone(request(votes=30, seed=seed)))
            assert (await ticket).complete.tolist() == [True]


async def test_at_the_end_of_the_grace_time_the_votes_so_far_are_the_answers() -> None:
    """Incomplete where some were counted, an error where none was; nothing is computed after that."""
    engine = Slow(batches=2)
    async with dispatching(engine) as (dispatcher, scheduler):
        begun = asyncio.create_task(dispatcher.vote(request(votes=1000)))
        await until(lambda: len(engine.batches) == 3)
        late = asyncio.create_task(dispatcher.vote(request(votes=5, seed=1)))
        await until(lambda: len(scheduler) == 2)
        await dispatcher.drain(grace_s=0)
        answer = await begun
        np.testing.assert_array_equal(answer.tally.histogram, alone(request(votes=8)))
        assert answer.complete.tolist() == [False]
        with pytest.raises(DrainingError, match=r"inputs\[0\]"):
            await late
        engine.may_run.set()
    assert batch_sizes(engine) == [4, 4, 4]


async def test_an_idle_server_has_nothing_to_drain() -> None:
    """It may end at once."""
    async with dispatching(FakeEngine()) as (dispatcher, _):
        await dispatcher.vote(request())
        draining = asyncio.create_task(dispatcher.drain(grace_s=60))
        await asyncio.sleep(0)  # it has begun
        assert draining.done()


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


async def test_standings_grow_to_the_answer() -> None:
    """After every batch the votes so far, which later ones add to; the last is the whole answer."""
    engine = Slow(batches=2)
    async with dispatching(engine) as (dispatcher, _):
        with dispatcher.accepted(request(votes=18)) as ticket:
            await until(lambda: len(engine.batches) == 3)
            told = ticket.standings()
            standings = [await anext(told)]
            engine.may_run.set()
            standings += [standing async for standing in told]
    assert [standing.ended for standing in standings] == [False] * (len(standings) - 1) + [True]
    used = [int(standing.tally.votes_used[0]) for standing in standings]
    assert used == sorted(set(used))
    for standing in standings:
        expected = alone(request(votes=int(standing.tally.votes_used[0])))
        np.testing.assert_array_equal(standing.tally.histogram, expected)
        assert standing.complete.tolist() == [standing.ended]
    assert used[0] == 8
    assert used[-1] == 18


async def test_standings_end_with_the_error() -> None:
    """Of a batch that the engine failed on, after those that it did not."""
    engine = Slow(batches=1)
    engine.failing_votes = {5}
    async with dispatching(engine) as (dispatcher, _):
        with dispatcher.accepted(request(votes=12)) as ticket:
            standings = ticket.standings()
            await until(lambda: len(engine.batches) == 2)
            used = int((await anext(standings)).tally.votes_used[0])
            engine.may_run.set()
            with pytest.raises(EngineError):
                await anext(standings)
    assert used == 4


class Overflowing(FakeEngine):
    """Some inputs overflow under noise, others without any."""

    def run(self, key: SessionKey, feeds: Feeds) -> NDArray[np.float32]:
        """Rows of inputs above 1 are not finite under noise, of those above 2 never."""
        logits = super().run(key, feeds)
        value = feeds.input[feeds.row].max(axis=1)
        logits[(value > 2) | ((value > 1) & (feeds.sigma.max(axis=1) > 0))] = np.nan
        return logits


async def test_outputs_that_are_not_finite_are_blamed_on_what_makes_them_so() -> None:
    """On sigma where they are finite without noise, else on the model; a batch-mate has its votes."""

    def of(value: float) -> VoteRequest:
        return replace(request(), inputs=np.full((1, 1), value, np.float32))

    engine = Overflowing(CLASSES)
    async with dispatching(engine, batch_rows=12) as (dispatcher, _):
        engine.may_run.clear()
        asked = [asyncio.create_task(dispatcher.vote(of(value))) for value in (0.5, 1.5, 2.5)]
        await until(lambda: bool(engine.batches))
        engine.may_run.set()
        calm, noisy, broken = await asyncio.gather(*asked, return_exceptions=True)
    assert not isinstance(calm, BaseException)
    np.testing.assert_array_equal(calm.tally.histogram, alone(of(0.5)))
    assert isinstance(noisy, OverflowedError)
    assert "sigma: 0.5" in str(noisy)
    assert isinstance(broken, EngineError)
    assert "sigma" not in str(broken)
    assert "the model's outputs are not finite" in str(broken)
