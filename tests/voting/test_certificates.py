"""Bounds and radii against 50 digits and against SciPy, and that they are never above the truth."""

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from noisevote.voting.certificates import (
    anytime_failure,
    certified_radius,
    failure_at,
    fixed_failure,
    log_evidence,
    lower_bound,
)

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
COUNTS = [(1, 1), (10, 10), (60, 100), (99, 100), (997, 1000), (10_000, 10_000), (9_500, 10_000), (99_990, 100_000)]


@pytest.fixture(autouse=True)
def _fifty_digits() -> None:
    getcontext().prec = 50


def normal_cdf(x: Decimal) -> Decimal:
    """Φ(x) by its series, ½ + φ(x)·Σ x^(2i+1)/(1·3·…·(2i+1))."""
    term, total, odd = x, x, 1
    while abs(term) > Decimal(10) ** -45:
        odd += 2
        term *= x * x / odd
        total += term
    return Decimal("0.5") + (-x * x / 2).exp() / (2 * PI).sqrt() * total


def at_most(failures: int, trials: int, q: Decimal) -> Decimal:
    """Probability of at most so many failures of probability q."""
    term = total = (1 - q) ** trials
    for i in range(failures):
        term *= (trials - i) * q / ((i + 1) * (1 - q))
        total += term
    return total


def mixture(count: int, trials: int, q: Decimal) -> Decimal:
    """The evidence of `log_evidence`, its integral written out as a binomial sum over the same beta distribution."""
    failures = trials - count
    # I_q(f + 1, k + 1) = P(Bin(t + 1, q) ≥ f + 1), and B(k + 1, f + 1) = k!·f!/(t + 1)!
    beta = Decimal(math.factorial(count) * math.factorial(failures)) / Decimal(math.factorial(trials + 1))
    # … which is P(Bin(t + 1, 1 − q) ≤ k), and so a sum without cancellation.
    return beta * at_most(count, trials + 1, 1 - q) / (q * (1 - q) ** count * q**failures)


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize(("count", "trials"), COUNTS)
def test_the_bound_of_fixed_votes_is_on_the_safe_side_by_a_hair(count: int, trials: int, alpha: float) -> None:
    """In 50 digits: at the bound the votes have probability alpha at most, and 2·10⁻¹² below it they have more."""
    bound = Decimal(fixed_failure(count, trials, alpha))
    assert at_most(trials - count, trials, bound) <= Decimal(alpha)
    assert at_most(trials - count, trials, bound * (1 - Decimal("2e-12"))) > Decimal(alpha)
    expected = stats.beta.ppf(alpha, count, trials - count + 1)
    assert lower_bound(float(bound)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize(("count", "trials"), [each for each in COUNTS if each[1] <= 1000 and each != (1, 1)])
def test_the_anytime_bound_is_on_the_safe_side_by_a_hair(count: int, trials: int, alpha: float) -> None:
    """In 50 digits: at the bound the evidence reaches 1/alpha, and a relative 10⁻⁶ below it does not."""
    bound = Decimal(anytime_failure(count, trials, alpha))
    assert mixture(count, trials, bound) >= 1 / Decimal(alpha)
    assert mixture(count, trials, bound * (1 - Decimal("1e-6"))) < 1 / Decimal(alpha)


@given(st.integers(1, 400), st.data(), st.floats(1e-4, 0.999))
@settings(max_examples=50, deadline=None)
def test_evidence_is_its_formula(trials: int, data: st.DataObject, q: float) -> None:
    """To nine digits of its logarithm; what is no evidence at all may be told as minus infinity."""
    count = data.draw(st.integers(0, trials))
    exact = mixture(count, trials, Decimal(q))
    found = float(log_evidence(np.array(count), np.array(trials - count), np.array(q)))
    if exact >= 1:
        assert found == pytest.approx(float(exact.ln()), abs=1e-8, rel=1e-9)
    else:
        assert found < 1e-8


@given(st.floats(1e-9, 0.5, exclude_max=True), st.sampled_from([0.12, 0.25, 0.5, 1.0, 3.0]))
@settings(max_examples=200, deadline=None)
def test_a_radius_is_never_above_the_true_one(failure: float, sigma: float) -> None:
    """In 50 digits Φ(radius/sigma) ≤ 1 − q; and it is SciPy's radius to 10⁻⁹."""
    radius = certified_radius(sigma, failure)
    assert normal_cdf(Decimal(radius) / Decimal(sigma)) <= 1 - Decimal(failure)
    assert radius == pytest.approx(sigma * stats.norm.isf(failure), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("failure", [0.5, 0.500001, 1.0])
def test_no_majority_certifies_nothing(failure: float) -> None:
    """Where a failure may be as likely as not, the radius is 0."""
    assert certified_radius(0.5, failure) == 0


@given(st.floats(0.001, 8), st.sampled_from([0.25, 0.5, 1.0]))
@settings(max_examples=200, deadline=None)
def test_what_a_radius_needs_certifies_it(ratio: float, sigma: float) -> None:
    """A bound at `failure_at(radius)`, rounded up as bounds are, certifies at least the radius."""
    radius = ratio * sigma
    assert certified_radius(sigma, failure_at(sigma, radius) * (1 + 3e-12)) >= radius


def test_nothing_is_certified_without_a_success() -> None:
    """Then failures may be certain."""
    assert fixed_failure(0, 10, 0.001) == anytime_failure(0, 10, 0.001) == 1


@pytest.mark.parametrize("alpha", [0.4, 0.9])
def test_large_alphas_keep_the_anytime_bound_below_the_share(alpha: float) -> None:
    """Also where the evidence reaches 1/alpha at the share of failures itself."""
    assert anytime_failure(5, 10, alpha) >= 0.5


# Successes and votes to the logarithm of the one-sided beta-binomial mixture at p0 = 1/2, computed with confseq 0.0.11
# (Howard et al.'s library): beta_binomial_log_mixture(k - n/2, n/4, V_OPT, 0.5, 0.5, 0.05, True).
V_OPT = 4.746644703972624  # where its mixture is uniform over (1/2, 1), as ours
CONFSEQ = {
    (0, 10): -2.3978952727982885, (5, 10): -0.9958525547102678, (8, 10): 1.3867992841298817,
    (56, 56): 35.46633802408195, (60, 100): 0.5788911232206674, (70, 100): 6.750621413021245,
    (900, 1000): 365.01828552792585, (99_000, 100_000): 63708.112706571934, (50_100, 100_000): -4.943441748806326,
    (1, 1): 0.40546510810814596,
}  # fmt: skip
# Lower bounds of its two-sided confidence sequence at 2 alpha = 0.002, the best of t_opt = 30, 300, 3000 and 30000.
TUNED = {
    (56, 56): 0.88648, (198, 200): 0.93332, (990, 1000): 0.97172, (9990, 10_000): 0.99715, (99_900, 100_000): 0.99854,
    (8413, 10_000): 0.82602,
}  # fmt: skip


def test_evidence_is_that_of_the_library_confseq() -> None:
    """At p0 = 1/2, where the library's mixture can be made the same as ours, its figures to 1e-9 of their size."""
    for (count, trials), theirs in CONFSEQ.items():
        ours = float(log_evidence(np.array(count), np.array(trials - count), np.array(0.5)))
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9)


def test_bound_is_near_the_best_that_confseq_can_be_tuned_to() -> None:
    """One mixture for all numbers of votes: never far above the tuned ones, and short by a third of 1 − p at most."""
    for (count, trials), theirs in TUNED.items():
        ours = 1 - anytime_failure(count, trials, 0.001)
        assert theirs - 0.33 * (1 - theirs) < ours < theirs + 0.01 * (1 - theirs)
