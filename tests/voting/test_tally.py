from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from scipy import special, stats

from noisevote.voting.bounds import binomial_p
from noisevote.voting.decision import decide
from noisevote.voting.tally import ONE, Tally, ballots, count, empty_tally

LOGITS = npst.arrays(
    np.float32, st.tuples(st.integers(1, 12), st.integers(2, 6)), elements=st.floats(-50, 50, width=32)
)
HISTOGRAMS = npst.arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.integers(0, 40))


def tally_of(histogram: list[list[int]], probabilities: list[list[float]] | None = None) -> Tally:
    """A tally with given votes; without mean probabilities they are all zero."""
    counts = np.array(histogram, np.int64)
    shares = np.zeros(counts.shape) if probabilities is None else np.array(probabilities)
    return Tally(counts, np.rint(shares * ONE * counts.sum(axis=1, keepdims=True)).astype(np.int64))


def decide_slowly(histogram: list[int], probabilities: list[int], alpha: float) -> tuple[int, float, float, bool]:
    """The decision on one input, as the definitions say it."""
    index = max(range(len(histogram)), key=lambda k: (histogram[k], probabilities[k], -k))
    total, (second, first) = sum(histogram), sorted(histogram)[-2:]
    bound = stats.binomtest(first, total, alternative="greater").proportion_ci(1 - alpha, method="exact").low
    return index, first / total, bound, stats.binomtest(first, first + second, 0.5).pvalue > alpha


@given(LOGITS)
def test_a_row_votes_for_its_largest_logit(logits: NDArray[np.float32]) -> None:
    """Equal logits go to the lower index; the softmax is right to the fixed point's last bit but one."""
    votes = ballots(logits)
    assert votes.classes.tolist() == [max(range(len(row)), key=lambda k: (row[k], -k)) for row in logits.tolist()]
    expected = special.softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(votes.probabilities / ONE, expected, rtol=0, atol=2.0**-32)
    assert votes.finite.all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_say_so(bad: float) -> None:
    """One overflowed row is marked, and does not disturb the others."""
    logits = np.array([[1, 2], [bad, 0], [3, 1]], np.float32)
    votes = ballots(logits)
    assert votes.finite.tolist() == [True, False, True]
    assert votes.classes[[0, 2]].tolist() == [1, 0]


@given(LOGITS, st.integers(1, 4), st.randoms())
def test_counting_is_adding_up_in_any_order(logits: NDArray[np.float32], inputs: int, random: object) -> None:
    """However rows are cut and ordered, the tally is bit for bit that of a plain loop."""
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]  # hypothesis's Random
    rows, classes = logits.shape
    owner = rng.integers(0, inputs, size=(rows,))
    votes = ballots(logits)
    slow = empty_tally(inputs, classes)
    for row in range(rows):
        slow.histogram[owner[row], votes.classes[row]] += 1
        slow.probabilities[owner[row]] += votes.probabilities[row]
    fast = empty_tally(inputs, classes)
    for part in np.array_split(rng.permutation(rows), rng.integers(1, rows + 1)):
        count(fast, owner[part], ballots(logits[part]))
    np.testing.assert_array_equal(fast.histogram, slow.histogram)
    np.testing.assert_array_equal(fast.probabilities, slow.probabilities)
    assert fast.votes_used.sum() == rows


def test_mean_probabilities_are_the_mean_softmax() -> None:
    """Three votes of one input, averaged; an input without votes has zeros."""
    logits = np.array([[1, 2, 3], [0, 0, 0], [5, 1, -4]], np.float32)
    tally = empty_tally(2, 3)
    count(tally, np.zeros(3, np.int64), ballots(logits))
    means = tally.mean_probabilities()
    np.testing.assert_allclose(means[0], special.softmax(logits.astype(np.float64), axis=1).mean(axis=0), atol=1e-9)
    assert not means[1].any()


@given(HISTOGRAMS, st.floats(0.001, 0.5), st.integers(0, 2**32 - 1))
def test_decisions_are_those_of_the_definitions(histogram: NDArray[np.int64], alpha: float, seed: int) -> None:
    """Mode, share, Clopper-Pearson bound and abstention agree with SciPy's tests, input by input."""
    histogram = histogram + (histogram.sum(axis=1, keepdims=True) == 0)
    probabilities = np.random.default_rng(seed).integers(0, 3, histogram.shape)  # few values: many ties
    found = decide(Tally(histogram, probabilities), alpha)
    for i, (counts, shares) in enumerate(zip(histogram.tolist(), probabilities.tolist(), strict=True)):
        index, share, bound, abstain = decide_slowly(counts, shares, alpha)
        assert found.index[i] == index
        assert found.vote_share[i] == share
        assert found.lower_bound[i] == pytest.approx(bound, rel=1e-9, abs=1e-12)
        assert found.abstain[i] == abstain


@given(HISTOGRAMS, st.floats(0.001, 0.5), st.integers(0, 2**32 - 1))
def test_an_input_alone_is_decided_as_among_others(histogram: NDArray[np.int64], alpha: float, seed: int) -> None:
    """To the last bit: the short way for one input agrees with the one for many."""
    histogram = np.concatenate((histogram, histogram))  # two at least
    histogram += histogram.sum(axis=1, keepdims=True) == 0
    probabilities = np.random.default_rng(seed).integers(0, 3, histogram.shape)
    together = decide(Tally(histogram, probabilities), alpha)
    for i in range(len(histogram)):
        alone = decide(Tally(histogram[i : i + 1], probabilities[i : i + 1]), alpha)
        for mine, all_ in zip(astuple(alone), astuple(together), strict=True):
            assert mine.dtype == all_.dtype
            assert mine[0] == all_[i]


def test_ties_go_to_the_larger_probability_then_to_the_lower_index() -> None:
    """The two tie-breaks, in this order."""
    assert decide(tally_of([[2, 2, 1]], [[0.3, 0.4, 0.3]]), 0.05).index.tolist() == [1]
    assert decide(tally_of([[1, 2, 2]], [[0.4, 0.3, 0.3]]), 0.05).index.tolist() == [1]


def test_twenty_equal_votes_give_the_documented_bound() -> None:
    """0.05^(1/20) = 0.8609, and no abstention."""
    found = decide(tally_of([[0, 20, 0]]), 0.05)
    assert found.lower_bound[0] == pytest.approx(0.05 ** (1 / 20))
    assert not found.abstain[0]


def test_one_vote_decides_nothing() -> None:
    """A single vote cannot tell first from second, so it abstains."""
    assert decide(tally_of([[0, 1, 0]]), 0.05).abstain[0]


@pytest.mark.parametrize("trials", [2, 9, 40])
def test_the_test_of_the_first_two_classes_keeps_its_level(trials: int) -> None:
    """Two equally likely classes are told apart with probability at most alpha (computed exactly)."""
    first = np.maximum(np.arange(trials + 1), trials - np.arange(trials + 1))
    told_apart = binomial_p(first, trials - first) <= 0.05
    assert stats.binom.pmf(np.arange(trials + 1), trials, 0.5)[told_apart].sum() <= 0.05
