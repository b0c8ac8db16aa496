"""Statistics of a number of successes in independent trials."""

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
