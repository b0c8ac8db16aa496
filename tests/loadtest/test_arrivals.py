from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisevote.loadtest.arrivals import poisson


@given(rate=st.floats(0.1, 500.0), seconds=st.floats(0.1, 5.0), seed=st.integers())
def test_due_times_rise_and_lie_within_the_phase(rate: float, seconds: float, seed: int) -> None:
    """Every request is due after the one before, and before the phase ends."""
    dues = list(poisson(rate, seconds, Random(seed)))
    assert all(before < after for before, after in pairwise(dues))
    assert all(0 < due < seconds for due in dues)


def test_arrivals_are_poisson() -> None:
    """Gaps have the mean and the spread of an exponential distribution: 1 ÷ rate both."""
    dues = list(poisson(50.0, 2000.0, Random(3)))
    gaps = [after - before for before, after in pairwise([0.0, *dues])]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 50, rel=0.02)
    assert spread == pytest.approx(1 / 50, rel=0.02)


def test_the_same_source_gives_the_same_times() -> None:
    """Due times depend on the source alone, so each run offers the same load, and no answer moves them."""
    assert list(poisson(20.0, 3.0, Random(1))) == list(poisson(20.0, 3.0, Random(1)))
    assert list(poisson(20.0, 3.0, Random(1))) != list(poisson(20.0, 3.0, Random(2)))
