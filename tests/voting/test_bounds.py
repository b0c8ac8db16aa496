import numpy as np
import pytest
from scipy import stats

from noisevote.voting.bounds import binomial_p, clopper_pearson, least_votes_to_decide


@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("trials", [1, 7, 30])
def test_the_lower_bound_holds_with_its_confidence(trials: int, alpha: float) -> None:
    """Whatever the true probability, the chance that the bound exceeds it is at most alpha (computed exactly)."""
    successes = np.arange(trials + 1)
    bounds = clopper_pearson(successes, np.full(trials + 1, trials), alpha)
    for probability in np.linspace(0.001, 0.999, 199):
        wrong = stats.binom.pmf(successes, trials, probability)[bounds > probability].sum()
        assert wrong <= alpha + 1e-12


@pytest.mark.parametrize("alpha", [0.999, 0.5, 0.25, 0.1, 0.0501, 0.05, 0.03125, 0.01, 0.001, 1e-12, 2.0**-40])
def test_fewer_votes_cannot_decide(alpha: float) -> None:
    """So many votes of one accord reach the level, and one fewer do not: 6 at alpha 0.05."""
    least = least_votes_to_decide(alpha)
    reached = binomial_p(np.array([least, least - 1]), np.zeros(2, np.int64)) <= alpha
    assert reached.tolist() == [True, False]
    assert least_votes_to_decide(0.05) == 6
