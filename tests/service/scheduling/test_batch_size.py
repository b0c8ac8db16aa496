import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisevote.engine.feeds import Feeds
from noisevote.engine.session_key import SessionKey
from noisevote.service.scheduling.batch_size import (
    ABOUT_AS_FAST,
    LONGER,
    LONGEST_BATCH_S,
    BatchProfile,
    measure,
    settled,
)
from noisevote.service.scheduling.turns import MOST_SHARING
from tests.support.engines import FakeEngine
from tests.support.manifests import manifest

KEY = SessionKey("tiny", "1", "v0")
CURVES = st.dictionaries(st.integers(1, 64), st.floats(1e-5, 1), min_size=1).map(lambda found: tuple(found.items()))


class TimedEngine(FakeEngine):
    """Its clock runs only while it computes: so many seconds a batch and a row, three times that every third time."""

    def __init__(self, batch_s: float, row_s: float) -> None:
        super().__init__()
        self.batch_s, self.row_s = batch_s, row_s
        self.now = 0.0

    def run(self, key: SessionKey, feeds: Feeds) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """See `Engine.run`."""
        disturbed = 3 if len(self.batches) % 3 == 0 else 1
        self.now += disturbed * (self.batch_s + self.row_s * len(feeds.row))
        return super().run(key, feeds)

    def clock(self) -> float:
        """Seconds."""
        return self.now


def paced(engine: TimedEngine, most_rows: int = 64) -> BatchProfile:
    """What is measured of an engine."""
    return measure(engine, KEY, manifest({"v0": b"onnx"}, classes=("a", "b", "c")), most_rows, engine.clock)


@given(CURVES)
def test_a_good_batch_is_the_shortest_that_is_about_as_fast_per_row_as_any(
    curve: tuple[tuple[int, float], ...],
) -> None:
    """Among those that keep nobody waiting too long; a single point if all are too long."""
    pace = BatchProfile.of(curve)
    short = [point for point in curve if point[1] <= LONGEST_BATCH_S]
    if not short:
        assert pace.rows == min(curve)[0]
        return
    seconds = dict(curve)[pace.rows]
    best = max(rows / time for rows, time in short)
    assert seconds <= LONGEST_BATCH_S
    assert pace.rows / seconds >= ABOUT_AS_FAST * best
    assert all(rows >= pace.rows or rows / time < ABOUT_AS_FAST * best for rows, time in short)
    assert pace.row_s == pytest.approx(seconds / pace.rows)


@given(CURVES)
def test_the_longest_batch_is_some_good_ones_and_was_measured(curve: tuple[tuple[int, float], ...]) -> None:
    """Its memory was there, and it keeps nobody waiting too long, unless a good one does."""
    pace = BatchProfile.of(curve)
    assert pace.rows <= pace.most_rows <= LONGER * pace.rows
    longest = max((rows for rows, seconds in curve if seconds <= LONGEST_BATCH_S), default=pace.rows)
    assert pace.most_rows <= longest


def test_a_costly_start_makes_batches_long_and_a_cheap_one_short() -> None:
    """1 ms a batch and 0.1 ms a row need most of the rows allowed; without a start one row is as good as any."""
    assert paced(TimedEngine(0.001, 0.0001)).rows == 48
    assert paced(TimedEngine(0.001, 0.0001), most_rows=12).rows == 12
    assert paced(TimedEngine(0.0, 0.0001)).rows == 1


def test_rows_that_are_computed_together_are_timed_together() -> None:
    """A step of four rows of 30 ms each: fewer take as long, so that a batch has four, though they take too long."""
    engine = TimedEngine(0.12, 0.0)
    pace = measure(engine, KEY, manifest({"v0": b"onnx"}, classes=("a", "b", "c")), 64, engine.clock, 4)
    assert pace.rows == 4
    assert {len(feeds.row) for _, feeds in engine.batches} == {4}


def test_disturbances_are_not_measured() -> None:
    """The least of several turns, so that what slows one of them down does not count."""
    pace = paced(TimedEngine(0.001, 0.0005))
    assert [rows for rows, _ in pace.curve] == [1, 2, 4, 8, 12, 16, 24, 32, 48, 64]
    for rows, seconds in pace.curve:
        assert seconds == pytest.approx(0.001 + 0.0005 * rows)


def test_a_slow_network_is_not_measured_beyond_the_first_batch_that_takes_too_long() -> None:
    """30 ms a row: two rows are too many, so batches have one."""
    engine = TimedEngine(0.0, 0.03)
    assert paced(engine).rows == 1
    assert max(len(feeds.row) for _, feeds in engine.batches) == 2


def test_batches_are_those_of_a_busy_server() -> None:
    """As many different inputs are in each as may share one, so that what rows of an input share is not overrated."""
    engine = TimedEngine(0.001, 0.0001)
    paced(engine, most_rows=32)
    found = {len(feeds.row): len(feeds.input) for _, feeds in engine.batches}
    assert found == {1: 1, 2: 2, 4: 4} | dict.fromkeys((8, 12, 16, 24, 32), MOST_SHARING)


@pytest.mark.parametrize(
    ("chosen", "ends"),
    [
        ([12, 12, 12], True),
        ([32, 12, 16], True),
        ([12, 8, 12], False),
    ],
)
def test_a_choice_among_batches_that_all_serve_is_made(chosen: list[int], ends: bool) -> None:
    """One that wavers to a batch with which more than a tenth is lost is not."""
    seconds = {8: 0.011, 12: 0.015, 16: 0.02, 32: 0.039, 48: 0.06}
    assert settled(chosen, seconds) == ends
    assert settled([48], {48: 0.06})  # there is no other


class Uneven(TimedEngine):
    """In each of its first five turns it disturbs all batches but those of one size."""

    SPARED = (4, 12, 24, 16, 32)

    def run(self, key: SessionKey, feeds: Feeds) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """See `Engine.run`."""
        turn, rows = len(self.batches) // 8, len(feeds.row)
        spared = turn >= len(self.SPARED) or rows == self.SPARED[turn]
        self.now += self.batch_s + self.row_s * rows + (0.0 if spared else 0.02)
        return FakeEngine.run(self, key, feeds)


def test_a_choice_that_still_changes_is_measured_on() -> None:
    """Until it is about as fast as that of an engine that nothing disturbs."""
    uneven, even = Uneven(0.001, 0.0005), TimedEngine(0.001, 0.0005)
    found, best = paced(uneven, most_rows=32), paced(even, most_rows=32)
    assert found.row_s <= best.row_s / ABOUT_AS_FAST
    assert len(uneven.batches) > len(even.batches)
