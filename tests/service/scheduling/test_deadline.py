"""What becomes of requests at their deadline."""

import asyncio

import numpy as np
import pytest

from noisevote.service.errors import (
    DeadlineExceededError,
    QueueFullError,
)
from noisevote.service.scheduling.batch_size import BatchProfile
from noisevote.service.scheduling.request import VoteRequest
from noisevote.voting.stopping import Fixed
from tests.support.dispatching import CLASSES, KEY, alone, batch_sizes, dispatching, request
from tests.support.engines import FakeEngine, Slow, skip_ahead, until


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
