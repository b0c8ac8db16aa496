"""Statistics of a number of successes in independent trials."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special


def clopper_pearson(successes: NDArray[np.int64], trials: NDArray[np.int64], alpha: float) -> NDArray[np.float64]:
    """Exact one-sided lower confidence bound of a probability at confidence 1 − alpha.

    The alpha quantile of the Beta(k, n − k + 1) distribution; 0 where k = 0.
    """
    bounds = special.betaincinv(np.maximum(successes, 1), trials - successes + 1, alpha)
    return np.where(successes > 0, bounds, 0.0)


def binomial_p(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Two-sided p value of `first` successes in `first + second` fair trials, where first ≥ second.

    P(X ≥ first) is the regularised incomplete beta function I½(first, second + 1).
    """
    upper = special.betainc(np.maximum(first, 1), second + 1, 0.5)
    return np.asarray(np.minimum(1.0, 2.0 * upper))


def least_votes_to_decide(alpha: float) -> int:
    """Fewest votes by which the two-sided binomial test at level alpha, 0 < alpha < 1, can tell two classes apart.

    Even n votes for one class have the p value 2^(1 − n); with fewer votes every decision abstains.
    """
    _, exponent = math.frexp(alpha)  # 2^(exponent − 1) is the largest power of two that alpha reaches
    return 2 - exponent
