"""How a dispatcher ends: what was accepted is finished, or answered as it stands."""

import asyncio

import numpy as np
import pytest

from noisevote.service.errors import (
    DrainingError,
)
from tests.support.dispatching import alone, batch_sizes, dispatching, request
from tests.support.engines import FakeEngine, Slow, until


async def test_closing_waits_for_the_batch_under_way() -> None:
    """What was handed to the engine is counted before the threads end."""
    engine = FakeEngine()
    async with dispatching(engine) as (dispatcher, _):
        waiting = asyncio.create_task(dispatcher.vote(request(votes=4)))
        await until(lambda: len(engine.batches) == 1)
    assert (await waiting).tally.votes_used.tolist() == [4]


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


async def test_draining_does_not_wait_for_a_request_that_was_cancelled() -> None:
    """Whoever waited for it is told so, and the draining that waited for it is over."""
    engine = FakeEngine()
    engine.may_run.clear()
    async with dispatching(engine) as (dispatcher, _):
        gone = asyncio.create_task(dispatcher.vote(request(votes=1000)))
        await until(lambda: len(engine.batches) == 1)
        draining = asyncio.create_task(dispatcher.drain(grace_s=60))
        await until(lambda: dispatcher.draining)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        async with asyncio.timeout(30):
            await draining
        engine.may_run.set()


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
