"""Certified radii from votes under Gaussian noise on the input: bounds that are never above the truth.

Cohen, Rosenfeld and Kolter 2019, "Certified adversarial robustness via randomized smoothing", algorithm CERTIFY: where
votes for a class have probability p > ½ under noise of standard deviation sigma on the input, the smoothed decision is
that class within the L2 radius sigma·Φ⁻¹(p). Everything here counts *failures*, votes for another class than the
certified one, and bounds their probability q = 1 − p from above: where p is close to 1, q keeps its relative precision.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

# SciPy's quantiles of the beta and the normal distribution are good to some parts in 10¹⁴; see the tests.
MARGIN: Final = 1e-12
# Logarithms of evidence are trusted up to this distance: lgamma is good to a few parts in 10¹⁶ of its value.
LOG_MARGIN: Final = 1e-8
HALVINGS: Final = 64

Counts = NDArray[np.int64]


def fixed_failure(count: int, trials: int, alpha: float) -> float:
    """Upper bound at confidence 1 − alpha of the probability q of a failure, of a number of votes fixed beforehand.

    Clopper and Pearson 1934: the 1 − alpha quantile of Beta(f + 1, k) with k = `count` successes and f failures;
    rounded up, and 1 without a success.
    """
    if count == 0:
        return 1.0
    quantile = float(special.betainccinv(trials - count + 1, count, alpha))
    return min(1.0, quantile * (1 + MARGIN))


def anytime_failure(count: int, trials: int, alpha: float) -> float:
    """Upper bound of the probability q of a failure that holds after every vote at once, with confidence 1 − alpha.

    A confidence sequence (Robbins 1970; Howard et al. 2021, "Time-uniform, nonparametric, nonasymptotic confidence
    sequences", the one-sided beta-binomial mixture): the least q at which `log_evidence` reaches log(1/alpha),
    rounded up. Evidence grows with q from its maximum-likelihood place on, so halving finds it.
    """
    threshold = math.log(1 / alpha) + LOG_MARGIN
    low, high = (trials - count + 1) / (trials + 1), 1.0
    if count == 0 or _evidence(count, trials, low) >= threshold:  # the latter only for alpha above 1/e
        return high if count == 0 else low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _evidence(count, trials, middle) >= threshold else (middle, high)
    return min(1.0, high * (1 + MARGIN))


def log_evidence(
    successes: Counts, failures: Counts, q: NDArray[np.float64], log_p: float | None = None
) -> NDArray[np.float64]:
    """Logarithm of the evidence against failures being at least as likely as q, 0 < q < 1.

    The likelihood ratio of p to p₀ = 1 − q, averaged over p uniform in (p₀, 1):
    B(k + 1, f + 1)·I_q(f + 1, k + 1) / (q · p₀^k · q^f). Where votes succeed with probability p₀ or less it is a
    supermartingale that begins at 1, so that it ever reaches 1/alpha has probability alpha at most (Ville 1939).
    `log_p` is log p₀, for q too close to 1 to tell.
    """
    with np.errstate(divide="ignore"):  # no mass left in (p₀, 1): no evidence
        mass = np.log(special.betainc(failures + 1, successes + 1, q))
    mixture = special.betaln(successes + 1, failures + 1) + mass
    of_success = np.log1p(-q) if log_p is None else log_p
    return np.asarray(mixture - np.log(q) - successes * of_success - failures * np.log(q))


def certified_radius(sigma: float, failure: float) -> float:
    """Radius −sigma·Φ⁻¹(q) in L2 within which the class is certain, q = `failure`; rounded down.

    0 where q is not below ½: no class is certified.
    """
    if failure >= 0.5:
        return 0.0
    exact = -sigma * float(special.ndtri(failure))
    return max(0.0, math.nextafter(exact * (1 - MARGIN), 0.0))


def lower_bound(failure: float) -> float:
    """Lower bound of the probability of the class, 1 − q, rounded down."""
    return max(0.0, math.nextafter(1 - failure, 0.0))


def failure_at(sigma: float, radius: float) -> float:
    """The failure probability q = Φ(−radius/sigma) that a radius needs, rounded down.

    A bound that was found at it has a `certified_radius` of at least the radius.
    """
    return float(special.ndtr(-radius / sigma)) * (1 - 1e-9)


def _evidence(count: int, trials: int, q: float) -> float:
    return float(log_evidence(np.array(count), np.array(trials - count), np.array(q)))
