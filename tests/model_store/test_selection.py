import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisevote.model_store.accuracy_table import effective_sigma
from noisevote.model_store.selection import NoVariantsError, estimate, select
from tests.support.manifests import point, variant

CLEAN = variant("mul-0.0", sigma_train=0.0, accuracy=[point(0.0, 0.99), point(0.5, 0.9), point(1.0, 0.5)])
NOISY = variant("mul-0.8", sigma_train=0.8, accuracy=[point(0.0, 0.98), point(0.5, 0.97), point(1.0, 0.9)])


def test_the_best_measured_variant_is_chosen() -> None:
    """Little noise goes to the variant that is best there, much noise to the other."""
    assert select([NOISY, CLEAN], "multiplicative", 0.0, 20) is CLEAN
    assert select([NOISY, CLEAN], "multiplicative", 1.0, 20) is NOISY


@given(sigma=st.floats(0, 10), reads=st.integers(1, 100))
def test_reads_are_less_sigma_and_nothing_else(sigma: float, reads: int) -> None:
    """Asking for R reads at sigma is asking for one read at sigma/√R."""
    folded = estimate(NOISY, "multiplicative", effective_sigma(sigma, reads), 20)
    assert estimate(NOISY, "multiplicative", sigma, 20, reads) == folded


def test_outside_of_the_table_the_nearest_points_are_compared() -> None:
    """At more noise than was measured, and with more votes, the variant that is best at the edge is chosen."""
    assert select([NOISY, CLEAN], "multiplicative", 3.0, 1000) is NOISY


def test_between_measured_votes_the_choice_follows_both_neighbours() -> None:
    """4 votes lie nearer to 20 than to 1 in logarithm only a little: a small lead at 1 vote outweighs none at 20."""
    slow = variant("mul-0.4", sigma_train=0.4, accuracy=[point(0.5, 0.6, votes=1), point(0.5, 0.95, votes=20)])
    fast = variant("mul-0.8", sigma_train=0.8, accuracy=[point(0.5, 0.7, votes=1), point(0.5, 0.945, votes=20)])
    assert select([slow, fast], "multiplicative", 0.5, 4) is fast
    assert select([slow, fast], "multiplicative", 0.5, 20) is slow


def test_equal_accuracy_goes_to_the_smaller_sigma_train() -> None:
    """The less a network was changed for noise, the better."""
    table = [point(0.5, 0.9)]
    first, second = (variant(f"mul-{s}", sigma_train=s, accuracy=table) for s in (0.4, 0.8))
    assert select([second, first], "multiplicative", 0.5, 20) is first


def test_an_unmeasured_noise_kind_goes_to_what_was_trained_for_it() -> None:
    """Measured variants come first; among unmeasured ones the noise kind of training, then the nearest σ_train."""
    wild = variant("mul-1.0", sigma_train=1.0)
    near = variant("add-0.2", noise="additive", sigma_train=0.2)
    far = variant("add-0.9", noise="additive", sigma_train=0.9)
    assert select([wild, far, near], "additive", 0.3, 20) is near
    measured = variant("mul-0.5", sigma_train=0.5, accuracy=[point(0.3, 0.2, noise="additive")])
    assert select([wild, far, near, measured], "additive", 0.3, 20) is measured


def test_nothing_to_choose_from_is_an_error() -> None:
    """There is no default variant."""
    with pytest.raises(NoVariantsError):
        select([], "multiplicative", 0.5, 20)
