from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisevote.loadtest.measurement import measure, percentiles
from tests.support.load_samples import OPEN, answer, phase, refusal, turn

TIMES = st.lists(st.floats(0.001, 100.0), min_size=1, max_size=300)


@given(TIMES)
def test_percentiles_are_the_least_times_that_so_many_do_not_exceed(seconds: list[float]) -> None:
    """By definition of the nearest rank, and none where it would be the longest for want of requests."""
    found = percentiles(seconds)
    assert found is not None
    for per_cent, value in ((50, found.p50), (95, found.p95), (99, found.p99)):
        enough = [time for time in seconds if Fraction(sum(t <= time for t in seconds), len(seconds)) * 100 >= per_cent]
        assert value is None or value == 1e3 * min(enough)
    assert found.longest == 1e3 * max(seconds)
    assert (found.p95 is None, found.p99 is None) == (len(seconds) < 20, len(seconds) < 100)


def test_nothing_has_no_percentiles() -> None:
    """Not zero: a phase without an answer has no latency."""
    assert percentiles([]) is None
    assert measure(phase(), turn(refusal(0.0, 0.1))).latency_ms is None


def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    """A request that was sent late, as the generator was held up, took all of that time; the lateness is told, too."""
    held_up = turn(answer(due=0.0, finished=0.1), answer(due=0.1, finished=1.1, late=0.75))
    found = measure(phase(load=OPEN), held_up)
    assert found.latency_ms is not None
    assert found.late_ms is not None
    assert found.latency_ms.longest == pytest.approx(1000.0)
    assert found.late_ms.longest == pytest.approx(750.0)


def test_closed_loops_have_no_lateness() -> None:
    """Their requests are due when they are sent."""
    assert measure(phase(), turn(answer(0.0, 0.1))).late_ms is None


def test_throughput_counts_all_votes_until_the_last_answer() -> None:
    """Answers after the phase's time count with the time that they took, and refusals count in no rate."""
    found = measure(phase(), turn(answer(0.0, 1.0), answer(1.9, 4.0, used=10), refusal(1.0, 1.1)))
    assert found.seconds == 4.0
    assert found.votes_per_second == pytest.approx(30 / 4)
    assert found.requests_per_second == pytest.approx(2 / 4)
    assert found.client_processors == pytest.approx(0.5 / 4)
    assert (found.requests, found.answered, found.outcomes) == (3, 2, {"200": 2, "429": 1})


def test_refusals_are_in_no_latency() -> None:
    """A fast refusal does not make a slow server look fast."""
    found = measure(phase(), turn(refusal(0.0, 0.001), refusal(0.1, 0.101), answer(0.0, 2.0)))
    assert found.latency_ms is not None
    assert found.latency_ms.p50 == pytest.approx(2000.0)


def test_votes_saved_are_those_asked_for_and_not_used() -> None:
    """Of answered requests alone: a refusal saves nothing."""
    found = measure(phase(rule="exact"), turn(answer(0.0, 0.1, used=10), answer(0.1, 0.2, used=15), refusal(0.2, 0.3)))
    assert (found.votes_asked, found.votes_used, found.saved_share) == (40, 25, 0.375)
    assert measure(phase(), turn(refusal(0.0, 0.1))).saved_share is None


def test_mixed_votes_have_latencies_of_each_number() -> None:
    """Small requests are seen among large ones; a number without an answer has none."""
    found = measure(phase(votes=(1, 20, 100)), turn(answer(0.0, 0.1, votes=1), answer(0.0, 0.5, votes=20)))
    assert {votes: each.p50 for votes, each in found.latency_ms_by_votes.items()} == {1: 100.0, 20: 500.0}
    assert not measure(phase(), turn(answer(0.0, 0.1))).latency_ms_by_votes


def test_a_phase_in_which_no_request_came_has_no_figures() -> None:
    """An open loop at a low rate may send nothing in a short phase."""
    found = measure(phase(load=OPEN), turn())
    assert (found.requests, found.votes_per_second, found.latency_ms) == (0, 0.0, None)
