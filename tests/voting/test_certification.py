"""The rules of certificates: coverage by exact dynamic programming, and independence of how votes are cut."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from noisevote.voting.certificates import LOG_MARGIN, anytime_failure, failure_at, fixed_failure, log_evidence
from noisevote.voting.certification import (
    GIVE_UP,
    AnytimeCertificate,
    FixedCertificate,
    certificate,
    look_times,
    looks_of,
)

pytestmark = pytest.mark.slow

ALPHA = 0.001


def outcomes(n: int, alpha: float, q: float, failing: float) -> dict[str, float]:
    """Exact probability of each end of the anytime rule at threshold q, and the mean of votes, by dynamic programming.

    `failing` is the true probability of a failure. States are (votes, failures); those still open between two looks
    move by a binomial number of failures, and those that a look ends are taken out.
    """
    plan = looks_of(n, alpha, q)
    first, alive = 0, np.ones(1)  # probabilities of `first`, `first` + 1, … failures
    found = dict.fromkeys(("radius", "refuted", "unreachable", "budget", "votes"), 0.0)
    for i, (before, now) in enumerate(pairwise([0, *plan.looks.tolist()])):
        found["votes"] += float(alive.sum()) * (now - before)
        alive = np.convolve(alive, stats.binom.pmf(np.arange(now - before + 1), now - before, failing))
        failures = first + np.arange(len(alive))
        certified, refuted = failures <= plan.most_failures[i], failures >= plan.refuting[i]
        beyond = ~certified & ~refuted & (failures > plan.reachable[i])
        ends = (certified, refuted, beyond) if now < n else (certified, refuted, np.zeros_like(beyond))
        for name, mask in zip(("radius", "refuted", "unreachable"), ends, strict=True):
            found[name] += float(alive[mask].sum())
            alive = np.where(mask, 0.0, alive)
        kept = np.flatnonzero(alive)
        if not len(kept):
            break
        first, alive = first + int(kept[0]), alive[kept[0] : kept[-1] + 1]
    found["budget"] = float(alive.sum())
    return found


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize(("n", "q"), [(500, 0.3), (5000, 0.1586553), (20_000, 0.0227501), (5000, 0.49)])
def test_a_radius_that_is_not_true_is_certified_with_probability_alpha_at_most(n: int, q: float, alpha: float) -> None:
    """Exactly, over every path of n votes, where failures are as likely as the radius just does not allow, or likelier.

    And the bound is worth its alpha: at the edge it is not far from used up.
    """
    for failing in (q, min(0.5, 1.1 * q)):
        found = outcomes(n, alpha, q, failing)
        assert found["radius"] <= alpha
        assert sum(found[name] for name in ("radius", "refuted", "unreachable", "budget")) == pytest.approx(1)
    assert outcomes(n, alpha, q, q)["radius"] > alpha / 20


@pytest.mark.parametrize("failing", [0.01, 0.2, 0.5, 0.8])
def test_the_bound_covers_after_all_votes_at_once(failing: float) -> None:
    """Exactly, looking after each of 2000 votes: the bound ever lies below the truth with probability ≤ alpha."""
    alpha, n = 0.05, 2000
    alive, missed = np.ones(1), 0.0
    for votes in range(1, n + 1):
        alive = np.convolve(alive, [1 - failing, failing])
        failures = np.arange(votes + 1)
        below = log_evidence(votes - failures, failures, np.array(failing)) >= math.log(1 / alpha) + LOG_MARGIN
        below &= failing * (votes + 1) > failures + 1
        missed += float(alive[below].sum())
        alive = np.where(below, 0.0, alive)
    assert 0 < missed <= alpha


@pytest.mark.parametrize(("count", "trials"), [(0, 3), (5, 5), (30, 30), (55, 60), (300, 400), (399, 400)])
def test_the_bound_is_where_the_tested_evidence_is_enough(count: int, trials: int) -> None:
    """What the coverage tests sum over is the bound that certificates show."""
    bound = anytime_failure(count, trials, ALPHA)
    for q in np.linspace(0.01, 0.99, 99):
        enough = float(log_evidence(np.array(count), np.array(trials - count), np.array(q)))
        below = enough >= math.log(1 / ALPHA) + LOG_MARGIN and q * (trials + 1) > trials - count + 1
        assert below == (bound < q)


def test_giving_up_costs_certificates_rarely() -> None:
    """A radius that is true is refuted with probability GIVE_UP at most, exactly."""
    q = failure_at(0.5, 0.5)
    assert outcomes(20_000, ALPHA, q, q)["refuted"] <= GIVE_UP


def test_most_inputs_take_few_of_a_hundred_thousand_votes() -> None:
    """At sigma ½ and radius ½, exact means of votes: clear inputs some dozens, refuted ones fewer than a thousand."""
    q, n = failure_at(0.5, 0.5), 100_000
    votes = {failing: outcomes(n, ALPHA, q, failing)["votes"] for failing in (0.001, 0.01, 0.05, 0.3, 0.5)}
    assert votes[0.001] < votes[0.01] < 100
    assert votes[0.05] < 200
    assert votes[0.5] < votes[0.3] < 200


def cast(rule: AnytimeCertificate | FixedCertificate, successes: NDArray[np.bool_]) -> list[int]:
    """Votes cast at each time that the rule is asked, until it wants no more."""
    now = [0]
    while more := rule.more(int(successes[: now[-1]].sum()), now[-1]):
        now.append(now[-1] + more)
    return now


@given(st.integers(1, 600), st.floats(0.3, 1), st.integers(0, 10**6), st.floats(0.01, 1.5))
@settings(max_examples=60, deadline=None)
def test_nothing_could_have_ended_it_before(n: int, p: float, seed: int, radius: float) -> None:
    """Asked after every vote, the slow reference, the rule stops at the same vote and for the same reason."""
    rule = AnytimeCertificate(n, ALPHA, 0.5, radius)
    successes = np.random.default_rng(seed).random(n) < p
    quick = cast(rule, successes)[-1]
    ends = [rule.met(int(successes[:t].sum()), t) for t in range(n + 1)]
    slow = next(t for t, end in enumerate(ends) if end is not None)
    assert quick == slow
    found = certificate(rule, 0.5, radius, int(successes[:quick].sum()), quick)
    assert (ends[slow] == "radius") == (not found.abstain) == (found.radius >= radius)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 300, 5000])
def test_looks_are_few_and_end_at_the_budget(n: int) -> None:
    """They rise by at least 8 votes, and by no more than a 32nd of the votes beyond that."""
    looks = look_times(n).tolist()
    assert looks[-1] == n
    assert all(0 < after - before <= max(8, before // 32) for before, after in pairwise([0, *looks]))


def test_a_radius_beyond_all_votes_is_not_tried() -> None:
    """Not one vote is cast where n successes would not do, nor where no number of votes would."""
    assert AnytimeCertificate(20, ALPHA, 0.5, 2.0).more(0, 0) == 0
    assert AnytimeCertificate(20, ALPHA, 0.5, 2.0).met(0, 0) == "unreachable"
    for beyond in (5.0, 10.0, 1e6):
        assert AnytimeCertificate(100_000, ALPHA, 0.5, beyond).met(0, 0) == "unreachable"


def test_without_a_radius_the_whole_budget_is_cast_and_the_bound_holds_before() -> None:
    """As far as the votes have come, the anytime rule has a bound; the fixed rule has one at its end alone."""
    anytime, fixed = AnytimeCertificate(1000, ALPHA, 0.5), FixedCertificate(1000, ALPHA)
    assert cast(anytime, np.ones(1000, np.bool_)) == cast(fixed, np.ones(1000, np.bool_)) == [0, 1000]
    assert certificate(anytime, 0.5, None, 100, 100).radius > 0
    assert certificate(fixed, 0.5, None, 100, 100).abstain
    assert certificate(fixed, 0.5, None, 990, 1000).lower_bound == pytest.approx(1 - fixed_failure(990, 1000, ALPHA))


def test_a_smaller_radius_than_asked_is_no_answer() -> None:
    """It abstains, under either rule."""
    assert certificate(FixedCertificate(1000, ALPHA), 0.5, 2.0, 1000, 1000).abstain
    assert not certificate(FixedCertificate(1000, ALPHA), 0.5, 1.0, 1000, 1000).abstain
