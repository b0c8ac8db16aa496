import numpy as np
import pytest
from scipy import stats

from noisevote.voting.bounds import clopper_pearson


@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("trials", [1, 7, 30])
def test_the_lower_bound_holds_with_its_confidence(trials: int, alpha: float) -> None:
    """Whatever the true probability, the chance that the bound exceeds it is at most alpha (computed exactly)."""
    successes = np.arange(trials + 1)
    bounds = clopper_pearson(successes, np.full(trials + 1, trials), alpha)
    for probability in np.linspace(0.001, 0.999, 199):
        wrong = stats.binom.pmf(successes, trials, probability)[bounds > probability].sum()
        assert wrong <= alpha + 1e-12
