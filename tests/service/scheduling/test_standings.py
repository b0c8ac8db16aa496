"""Votes told while they are counted."""

import numpy as np
import pytest

from noisevote.service.errors import (
    EngineError,
)
from tests.support.dispatching import alone, dispatching, request
from tests.support.engines import Slow, until


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
