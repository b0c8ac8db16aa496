import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.manifest import AccuracyPoint
from model_store.selection import NoVariantsError, effective_sigma, estimate, select

from .samples import point, variant

CLEAN = variant("mul-0.0", sigma_train=0.0, accuracy=[point(0.0, 0.99), point(0.5, 0.9), point(1.0, 0.5)])
NOISY = variant("mul-0.8", sigma_train=0.8, accuracy=[point(0.0, 0.98), point(0.5, 0.97), point(1.0, 0.9)])


def test_the_best_measured_variant_is_chosen() -> None:
    """Little noise goes to the variant that is best there, much noise to the other."""
    assert select([NOISY, CLEAN], "multiplicative", 0.0, 20) is CLEAN
    assert select([NOISY, CLEAN], "multiplicative", 1.0, 20) is NOISY


def test_accuracy_is_linear_between_measured_sigmas() -> None:
    """Halfway between two points lies the mean of their accuracies."""
    found = estimate(CLEAN, "multiplicative", 0.75, 20)
    assert found is not None
    assert found.accuracy == pytest.approx(0.7)
    assert found.measured


def test_outside_the_table_the_nearest_point_counts_and_the_estimate_says_so() -> None:
    """Nothing is extrapolated."""
    found = estimate(CLEAN, "multiplicative", 3.0, 20)
    assert found is not None
    assert found.accuracy == 0.5
    assert not found.measured


@given(sigma=st.floats(0, 10), reads=st.integers(1, 100))
def test_reads_are_less_sigma_and_nothing_else(sigma: float, reads: int) -> None:
    """Asking for R reads at sigma is asking for one read at sigma/√R."""
    folded = estimate(NOISY, "multiplicative", effective_sigma(sigma, reads), 20)
    assert estimate(NOISY, "multiplicative", sigma, 20, reads) == folded


def test_points_measured_with_reads_count_at_their_effective_sigma() -> None:
    """A point at sigma 1 with 4 reads is a point at sigma 0.5."""
    averaged = variant(accuracy=[point(0.0, 1.0), point(1.0, 0.8, reads=4)])
    found = estimate(averaged, "multiplicative", 0.25, 20)
    assert found is not None
    assert found.accuracy == pytest.approx(0.9)


def test_repeated_measurements_are_pooled_by_their_images() -> None:
    """300 images at 0.8 and 100 at 0.4 make 0.7."""
    twice = variant(accuracy=[point(0.5, 0.8, images=300), point(1.0, 0.4, reads=4, images=100)])
    found = estimate(twice, "multiplicative", 0.5, 20)
    assert found is not None
    assert found.accuracy == pytest.approx(0.7)


@pytest.mark.parametrize(("asked", "taken"), [(1, 1), (3, 1), (4, 1), (5, 20), (20, 20), (1000, 20)])
def test_the_nearest_measured_votes_count_by_ratio(asked: int, taken: int) -> None:
    """Between 1 and 20 votes the border is √20."""
    two = variant(accuracy=[point(0.5, 0.6, votes=1), point(0.5, 0.9, votes=20)])
    found = estimate(two, "multiplicative", 0.5, asked)
    assert found is not None
    assert found.votes == taken


def test_equal_accuracy_goes_to_the_smaller_sigma_train() -> None:
    """The less a network was changed for noise, the better."""
    table = [point(0.5, 0.9)]
    first, second = (variant(f"mul-{s}", sigma_train=s, accuracy=table) for s in (0.4, 0.8))
    assert select([second, first], "multiplicative", 0.5, 20) is first


def test_without_noise_the_kind_does_not_matter() -> None:
    """A point at sigma 0 serves both kinds; with noise the other kind's points say nothing."""
    assert estimate(CLEAN, "additive", 0.0, 20) == estimate(CLEAN, "multiplicative", 0.0, 20)
    assert estimate(CLEAN, "additive", 0.1, 20) is None


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


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=6, unique_by=lambda pair: pair[0]),
    st.floats(0, 10),
)
def test_an_estimate_never_leaves_the_measured_accuracies(table: list[tuple[float, float]], sigma: float) -> None:
    """Interpolation stays between the lowest and the highest measured accuracy."""
    points: list[AccuracyPoint] = [point(s, a) for s, a in table]
    found = estimate(variant(accuracy=points), "multiplicative", sigma, 20)
    if found is None:  # only when all points are at sigma 0 of the other kind, which these are not
        raise AssertionError
    lowest, highest = (bound(accuracy for _, accuracy in table) for bound in (min, max))
    assert lowest - 1e-12 <= found.accuracy <= highest + 1e-12
