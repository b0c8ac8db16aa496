import asyncio
import pickle
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisevote.service.backends.replicated import Spreading
from noisevote.service.errors import (
    DeadlineExceededError,
    DrainingError,
    EngineError,
    OverflowedError,
    QueueFullError,
    ServiceError,
    TimedOutError,
)
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import QueueLimits
from noisevote.voting.stopping import Exact, Fixed
from tests.service.backends.test_partition import CLASSES, REQUESTS, computed, request
from tests.support.effort import examples
from tests.support.engines import FakeEngine, Slow, skip_ahead, until
from tests.support.fleet import BEAT_S, answered, fleet, same, spreader


@settings(deadline=None, max_examples=examples(25))
@given(st.lists(REQUESTS, min_size=1, max_size=4), st.integers(1, 30), st.integers(0, 2**32))
def test_whichever_replicas_are_lost_each_answer_is_that_of_one_process(
    wanted: list[VoteRequest], part_rows: int, seed: int
) -> None:
    """Requests at once, cut anywhere, a third of all answers lost with their replica: every vote is counted once."""
    random = Random(seed)

    async def play() -> None:
        async with (
            fleet(fate=lambda _: random.random() < 0.3) as replicas,
            spreader(replicas, Spreading(part_rows, 60, 60)) as spread,
        ):
            answers = await asyncio.gather(*(answered(spread, one) for one in wanted))
            for one, answer in zip(wanted, answers, strict=True):
                same(answer, computed(one))
            assert spread.load()[:2] == (0, 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("noisevote.service.backends.replicated.FIRST_PAUSE_S", 0)
        asyncio.run(play())


async def test_a_large_request_is_computed_by_several_replicas() -> None:
    """Its parts go to all of them; a small one is asked for once."""
    async with fleet() as replicas, spreader(replicas) as spread:
        same(await answered(spread, request(1, 16, Fixed())), computed(request(1, 16, Fixed())))
        assert sorted(replicas.asked) == [0, 0, 1, 1]
        await answered(spread, request(2, 2, Fixed()))
        assert len(replicas.asked) == 5


async def test_replicas_have_only_some_parts_of_a_request_at_a_time() -> None:
    """So that a large request is not a crowd beside small ones; the others follow as parts are answered."""
    engine = FakeEngine(CLASSES)
    engine.may_run.clear()
    wanted = request(1, 40, Fixed())
    async with fleet(engine) as replicas, spreader(replicas, Spreading(4, 30, 30, parts_at_once=3)) as spread:
        asking = asyncio.create_task(answered(spread, wanted))
        await until(lambda: replicas.replicas[0].load().workers_busy == 2)
        await asyncio.sleep(5 * BEAT_S)
        assert len(replicas.asked) == 3
        engine.may_run.set()
        same(await asking, computed(wanted))
        assert len(replicas.asked) == 10


@pytest.mark.parametrize(
    "error",
    [
        QueueFullError("full", 7),
        DrainingError("soon"),
        DeadlineExceededError("late"),
        EngineError("x"),
        OverflowedError("y"),
    ],
    ids=lambda error: error.code,
)
def test_what_a_replica_answers_arrives_as_it_was(error: ServiceError) -> None:
    """Errors keep their kind, message and headers on the way from another process."""
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert (str(arrived), arrived.headers) == (str(error), error.headers)


async def test_a_replica_that_falls_silent_is_taken_for_lost() -> None:
    """Without any error from it, its parts are asked of another."""
    wanted = request(1, 16, Fixed())
    async with fleet() as replicas, spreader(replicas, Spreading(4, 30, silence_s=10 * BEAT_S)) as spread:
        replicas.silent = {1}
        same(await answered(spread, wanted), computed(wanted))
        assert replicas.asked.count(1) >= 2


async def test_a_replica_that_only_takes_long_is_waited_for() -> None:
    """While it computes it gives signs of life, and is asked once."""
    engine = FakeEngine(CLASSES)
    engine.may_run.clear()
    async with fleet(engine) as replicas, spreader(replicas, Spreading(100, 30, silence_s=50 * BEAT_S)) as spread:
        asking = asyncio.create_task(answered(spread, request(1, 4, Fixed())))
        await asyncio.sleep(100 * BEAT_S)
        engine.may_run.set()
        same(await asking, computed(request(1, 4, Fixed())))
        assert replicas.asked == [0]


async def test_a_request_that_nobody_answers_is_refused_in_the_end() -> None:
    """With every replica lost, 504 at the timeout; nothing of it is left behind."""
    async with fleet(fate=lambda _: True) as replicas, spreader(replicas, Spreading(4, 0.2, 30)) as spread:
        with pytest.raises(TimedOutError, match=r"within 0\.2 s"):
            await answered(spread, request(1, 16, Fixed()))
        assert spread.load()[:2] == (0, 0)
        assert len(replicas.asked) > 4


async def test_a_part_that_is_refused_refuses_the_whole() -> None:
    """A replica whose queue is full says so, the client hears it, and the other replicas drop their parts."""
    engines = [FakeEngine(CLASSES), FakeEngine(CLASSES)]
    for engine in engines:
        engine.may_run.clear()
    async with fleet(*engines, limits=QueueLimits(rows=4, bytes=10**9)) as replicas, spreader(replicas) as spread:
        with pytest.raises(QueueFullError, match="4 rows more than the 4 waiting would pass 4"):
            await answered(spread, request(1, 12, Fixed()))
        await until(lambda: all(replica.load().requests == 0 for replica in replicas.replicas))


async def test_what_waits_for_replicas_is_bounded_too() -> None:
    """Rows and bytes of the settings hold for all requests together; what is refused was never asked for."""
    engine = FakeEngine(CLASSES)
    engine.may_run.clear()
    async with fleet(engine) as replicas, spreader(replicas, limits=QueueLimits(rows=10, bytes=10**9)) as spread:
        with spread.accepted(request(1, 8, Fixed())):
            await until(lambda: len(replicas.asked) == 2)
            assert spread.load()[:3] == (1, 8, 10)
            with pytest.raises(QueueFullError, match="3 rows more than the 8 waiting would pass 10"):
                await answered(spread, request(1, 3, Fixed()))
        assert len(replicas.asked) == 2


async def test_leaving_drops_the_parts_on_replicas() -> None:
    """A client that left has nothing computed for it any more."""
    engine = FakeEngine(CLASSES)
    engine.may_run.clear()
    async with fleet(engine) as replicas, spreader(replicas) as spread:
        with spread.accepted(request(1, 16, Fixed())):
            await until(lambda: replicas.replicas[0].load().requests == 4)
        await until(lambda: replicas.replicas[0].load().requests == 0)


async def test_a_deadline_gives_the_votes_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Votes of parts that are not complete count too, and inputs with all theirs are complete."""
    engine = Slow(batches=3, classes=CLASSES)
    wanted = request(2, 8, Fixed(), anytime=True)
    async with fleet(engine) as replicas, spreader(replicas, Spreading(8, 30, 30)) as spread:
        with spread.accepted(wanted, deadline_ms=10_000) as ticket:
            await until(lambda: spread.load().rows < wanted.rows - 8)
            skip_ahead(monkeypatch, 20)
            answer = await ticket.answer()
        whole = computed(wanted)
        assert 8 < answer.tally.histogram.sum() < 16
        assert (answer.tally.histogram <= whole.tally.histogram).all()
        assert not answer.complete.all()


async def test_a_deadline_before_any_vote_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in one process, it names the input."""
    engine = FakeEngine(CLASSES)
    engine.may_run.clear()
    async with fleet(engine) as replicas, spreader(replicas) as spread:
        with spread.accepted(request(2, 4, Fixed(), anytime=True), deadline_ms=10_000) as ticket:
            await until(lambda: replicas.replicas[0].load().requests == 2)
            skip_ahead(monkeypatch, 20)
            with pytest.raises(DeadlineExceededError, match=r"10000 passed before inputs\[0\] had a vote"):
                await ticket.answer()


@pytest.mark.parametrize("lost", [False, True])
async def test_standings_grow_to_the_answer(*, lost: bool) -> None:
    """A stream hears of votes as replicas count them, never of fewer than before, though a part is asked for again."""
    fates = {1: iter([lost])}  # that of the second replica's first answer
    wanted = request(2, 60, Fixed(), anytime=True)
    engines = Slow(1, CLASSES), Slow(1, CLASSES)
    async with (
        fleet(*engines, fate=lambda number: next(fates.get(number, iter(())), False)) as replicas,
        spreader(replicas, Spreading(60, 30, 30)) as spread,
    ):
        used = []
        with spread.accepted(wanted) as ticket:
            async for answer in ticket.standings():
                used.append(int(answer.tally.histogram.sum()))
                for engine in engines:
                    engine.may_run.set()
        assert replicas.asked == ([0, 1, 0] if lost else [0, 1])
        assert used == sorted(used)
        assert used[0] < used[-1] == wanted.rows
        same(answer, computed(wanted))


async def test_what_a_lost_replica_has_under_way_is_not_counted_when_it_is_asked_again() -> None:
    """A replica taken for lost while it computes, and then asked for the same votes, counts each of them once."""
    engine = FakeEngine(CLASSES)
    engine.may_run.clear()
    losing = iter([True])  # at the first sign of life, while its lanes hold a batch each
    wanted = request(1, 40, Exact())
    async with fleet(engine, fate=lambda _: next(losing, False)) as replicas, spreader(replicas) as spread:
        asking = asyncio.create_task(answered(spread, wanted))
        await until(lambda: len(replicas.asked) > 1)
        engine.may_run.set()
        same(await asking, computed(wanted))


async def test_a_replica_about_to_end_is_no_refusal() -> None:
    """One that drains accepts no parts, and ends those it has with the votes so far: another does them whole."""
    engine = FakeEngine(CLASSES)
    engine.may_run.clear()
    wanted = request(1, 4, Exact())
    async with fleet(engine, FakeEngine(CLASSES)) as replicas, spreader(replicas) as spread:
        asking = asyncio.create_task(answered(spread, wanted))
        await until(lambda: replicas.replicas[0].load().requests == 1)
        await replicas.replicas[0].drain(0)
        same(await asking, computed(wanted))
        same(await answered(spread, wanted), computed(wanted))  # offered to the draining one again
        assert replicas.asked == [0, 1, 0, 1]


async def test_draining_refuses_and_waits() -> None:
    """The spreader itself accepts nothing more, and is done once what it had is answered."""
    engine = FakeEngine(CLASSES)
    engine.may_run.clear()
    async with fleet(engine) as replicas, spreader(replicas) as spread:
        asking = asyncio.create_task(answered(spread, request(1, 4, Fixed())))
        await until(lambda: len(replicas.asked) == 1)
        draining = asyncio.create_task(spread.drain(30))
        await until(lambda: spread.draining)
        with pytest.raises(DrainingError):
            await answered(spread, request(1, 4, Fixed()))
        assert not draining.done()
        engine.may_run.set()
        same(await asking, computed(request(1, 4, Fixed())))
        await draining


async def test_a_defect_in_asking_is_an_error_and_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    """What no replica said is a defect: 500 at once, and its traceback in the log."""

    def defective(_: int) -> bool:
        raise KeyError("injected")

    async with fleet(fate=defective) as replicas, spreader(replicas) as spread:
        with pytest.raises(EngineError, match="KeyError"):
            await answered(spread, request(1, 4, Fixed()))
    assert "injected" in caplog.text


async def test_a_failing_engine_is_not_asked_again() -> None:
    """The same votes would fail anywhere."""
    engine = FakeEngine(CLASSES)
    engine.failing_votes = {3}
    async with fleet(engine) as replicas, spreader(replicas) as spread:
        with pytest.raises(EngineError):
            await answered(spread, request(1, 4, Fixed()))
        assert replicas.asked == [0]
