"""Who is told of what an engine does wrong."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.engine.session_key import SessionKey
from noisevote.service.errors import (
    EngineError,
    OverflowedError,
)
from noisevote.service.scheduling.request import VoteRequest
from tests.support.dispatching import CLASSES, alone, dispatching, request
from tests.support.engines import FakeEngine, until


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
