import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from noisevote.voting.decision import decide
from noisevote.voting.stopping import Confidence, Exact, StopRule
from noisevote.voting.tally import ONE, Ballots, count, empty_tally

DELTAS = st.floats(1e-6, 1, exclude_max=True)
SEQUENCES = st.integers(2, 5).flatmap(
    lambda classes: st.tuples(st.just(classes), st.lists(st.integers(0, classes - 1), min_size=1, max_size=60))
)


def histogram_of(cast: list[int], classes: int) -> NDArray[np.int64]:
    """Votes per class, int64 [1, classes]."""
    return np.bincount(np.array(cast, np.int64), minlength=classes)[np.newaxis]


def looks(rule: StopRule, sequence: list[int], classes: int) -> list[int]:
    """Votes cast at each look of the rule; the last is where it stops."""
    cast = [0]
    while more := int(rule.more(histogram_of(sequence[: cast[-1]], classes), len(sequence))[0]):
        cast.append(cast[-1] + more)
    return cast


def is_decided(histogram: list[int], left: int) -> bool:
    """The slow reference of `exact`."""
    *rivals, leader = sorted(histogram)
    return all(leader - rival > left for rival in rivals)


def is_known(histogram: list[int], delta: float) -> bool:
    """The slow reference of `confidence`, in fractions and for every rival."""
    *rivals, a = sorted(histogram)
    factorial = math.factorial
    return all(
        Fraction(2 ** (a + b) * factorial(a) * factorial(b), factorial(a + b + 1)) >= len(rivals) / Fraction(delta)
        for b in rivals
    )


def decision(sequence: tuple[int, ...], probabilities: NDArray[np.int64]) -> int:
    """What these votes decide."""
    tally = empty_tally(1, probabilities.shape[1])
    finite = np.ones(len(sequence), np.bool_)
    shares = probabilities[: len(sequence)]
    ballots = Ballots(np.array(sequence, np.int64), shares, finite, shares.astype(np.float32))
    count(tally, np.zeros(len(sequence), np.int64), ballots)
    return int(decide(tally, 0.05).index[0])


@pytest.mark.parametrize(("classes", "budget"), [(2, 8), (3, 6), (4, 5)])
@pytest.mark.parametrize("seed", [0, 1])
def test_exact_decides_as_the_whole_budget_does(classes: int, budget: int, seed: int) -> None:
    """For every sequence of votes up to the budget, ties that mean probabilities decide included."""
    generator = np.random.default_rng(seed)
    for size in range(1, budget + 1):
        for sequence in product(range(classes), repeat=size):
            probabilities = generator.integers(0, ONE, (size, classes))
            used = looks(Exact(), list(sequence), classes)[-1]
            assert decision(sequence[:used], probabilities) == decision(sequence, probabilities)


@given(SEQUENCES)
def test_exact_stops_as_early_as_it_can(drawn: tuple[int, list[int]]) -> None:
    """Where looking after every single vote would stop, though it looks more rarely."""
    classes, sequence = drawn
    budget = len(sequence)
    single = next(
        cast
        for cast in range(1, budget + 1)
        if cast == budget or is_decided(histogram_of(sequence[:cast], classes)[0].tolist(), budget - cast)
    )
    assert looks(Exact(), sequence, classes)[-1] == single


@pytest.mark.parametrize(("votes", "expected"), [(1, [1]), (2, [2]), (3, [2]), (20, [11]), (21, [11])])
def test_exact_asks_once_when_all_agree(votes: int, expected: list[int]) -> None:
    """More than half of the budget, in one piece."""
    assert looks(Exact(), [1] * votes, 3)[1:] == expected


def test_exact_does_not_stop_at_a_lead_that_can_end_in_a_tie() -> None:
    """Two votes ahead with two left is not decided; three ahead with one left is."""
    assert Exact().more(np.array([[4, 2, 0], [5, 2, 0]]), 8).tolist() == [1, 0]


@settings(deadline=None)
@given(SEQUENCES, DELTAS)
def test_confidence_stops_at_the_first_vote_that_satisfies_it(drawn: tuple[int, list[int]], delta: float) -> None:
    """As a check of every rival in fractions after every single vote would."""
    classes, sequence = drawn
    budget = len(sequence)
    single = next(
        cast
        for cast in range(1, budget + 1)
        if cast == budget or is_known(histogram_of(sequence[:cast], classes)[0].tolist(), delta)
    )
    assert looks(Confidence(delta), sequence, classes)[-1] == single


@pytest.mark.parametrize("agreeing", range(2, 30))
@pytest.mark.parametrize("rivals", [1, 2, 9])
def test_confidence_is_exact_on_its_threshold(agreeing: int, rivals: int) -> None:
    """At the very delta, in float64, that so many agreeing votes satisfy, and at its neighbours."""
    at = float(Fraction(rivals * (agreeing + 1), 2**agreeing))
    for delta in (math.nextafter(at, 0), at, math.nextafter(at, 1)):
        if delta < 1:
            expected = next(n for n in range(100) if is_known([0] * rivals + [n], delta))
            assert Confidence(delta).more(np.zeros((1, rivals + 1), np.int64), 100).tolist() == [expected]


@pytest.mark.parametrize("delta", [math.ulp(0.0), 1e-300, 0.05, math.nextafter(1, 0)])
@pytest.mark.parametrize("budget", [1, 2, 10_000])
def test_confidence_asks_for_at_least_one_vote_and_at_most_the_budget(delta: float, budget: int) -> None:
    """However loose or strict it is."""
    rule = Confidence(delta)
    assert 1 <= rule.more(np.zeros((1, 10), np.int64), budget)[0] <= budget
    assert rule.more(np.array([[budget // 2, budget - budget // 2]]), budget).tolist() == [0]


@pytest.mark.parametrize("shares", [(0.5, 0.4, 0.1), (0.3, 0.25, 0.25, 0.2), (0.52, 0.48)])
@pytest.mark.parametrize("delta", [0.05, 0.5])
def test_confidence_errs_at_most_as_often_as_it_says(shares: tuple[float, ...], delta: float) -> None:
    """Multinomial votes whose mode is class 0: how often it stops on another one before the budget."""
    runs, budget = 1000, 400
    drawn = np.random.default_rng(5).choice(len(shares), (runs, budget), p=shares)
    rule, histogram, everything = Confidence(delta), np.zeros((runs, len(shares)), np.int64), np.arange(runs)
    while (more := rule.more(histogram, budget)).any():
        cast = histogram.sum(axis=1)
        for vote in range(int(more.max())):
            going = everything[vote < more]
            np.add.at(histogram, (going, drawn[going, cast[going] + vote]), 1)
    stopped = histogram.sum(axis=1) < budget
    wrong = int((stopped & (histogram.argmax(axis=1) != 0)).sum())
    assert stopped.any()
    assert wrong <= stats.binom.ppf(1 - 1e-6, runs, delta)


@given(SEQUENCES, DELTAS)
def test_a_rule_answers_each_input_by_itself(drawn: tuple[int, list[int]], delta: float) -> None:
    """Inputs asked about together get the answers that they get alone."""
    classes, sequence = drawn
    histograms = np.concatenate([histogram_of(sequence[:cast], classes) for cast in range(len(sequence) + 1)])
    for rule in (Exact(), Confidence(delta)):
        one_by_one = [int(rule.more(each[np.newaxis], len(sequence))[0]) for each in histograms]
        assert rule.more(histograms, len(sequence)).tolist() == one_by_one
