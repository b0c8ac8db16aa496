"""The table's estimates against a reference in plain Python, point by point."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from noisevote.model_store.accuracy_table import AccuracyTable, Estimate, accuracy_table, effective_sigma
from noisevote.model_store.manifest import AccuracyPoint
from tests.support.manifests import point, variant

pytestmark = pytest.mark.slow

NORMAL = NormalDist()
IMAGES = 1000


def table_of(*points: AccuracyPoint) -> AccuracyTable:
    """The multiplicative table of these points."""
    found = accuracy_table(variant(accuracy=points), "multiplicative", 0.5)
    assert found is not None
    return found


@st.composite
def tables(draw: st.DrawFn) -> list[AccuracyPoint]:
    """Points that leave holes: each number of votes has sigmas of its own, all among 0, 0.1 … 1.5."""
    counts = draw(st.lists(st.sampled_from([1, 2, 3, 5, 10, 20, 50]), min_size=1, max_size=4, unique=True))
    points = []
    for votes in counts:
        steps = draw(st.lists(st.integers(0, 15), min_size=1, max_size=6, unique=True))
        right = draw(st.lists(st.integers(0, IMAGES), min_size=len(steps), max_size=len(steps)))
        points += [
            point(step / 10, hits / IMAGES, votes, images=IMAGES) for step, hits in zip(steps, right, strict=True)
        ]
    return [*points, point(1.6, 0.2, counts[0], images=IMAGES)]  # so that something is known about noise


SIGMAS = st.floats(0, 2) | st.integers(0, 20).map(lambda step: step / 10)
VOTES = st.integers(1, 60)


def slopes(xs: Sequence[float], ys: Sequence[float]) -> list[float]:
    """Derivatives of the monotone cubic at its points (Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5, 1984)."""
    steps = [b - a for a, b in pairwise(xs)]
    rises = [(b - a) / step for (a, b), step in zip(pairwise(ys), steps, strict=True)]
    if len(xs) == 2:
        return [rises[0], rises[0]]

    def end(near: float, far: float, rise: float, next_rise: float) -> float:
        slope = ((2 * near + far) * rise - near * next_rise) / (near + far)
        if slope * rise <= 0:
            return 0.0
        return 3 * rise if rise * next_rise <= 0 and abs(slope) > 3 * abs(rise) else slope

    inner = []
    for (h0, h1), (r0, r1) in zip(pairwise(steps), pairwise(rises), strict=True):
        w0, w1 = 2 * h1 + h0, h1 + 2 * h0
        inner.append(0.0 if r0 * r1 <= 0 else (w0 + w1) / (w0 / r0 + w1 / r1))
    return [end(*steps[:2], *rises[:2]), *inner, end(*steps[:-3:-1], *rises[:-3:-1])]


def slow_curve(points: dict[float, float], sigma: float) -> float:
    """Probit of the accuracy at a sigma within the measured ones, by the cubic's Hermite form."""
    xs = sorted(points)
    ys = [NORMAL.inv_cdf(min(max(points[x], 0.5 / IMAGES), 1 - 0.5 / IMAGES)) for x in xs]
    if sigma in xs:
        return ys[xs.index(sigma)]
    derivatives = slopes(xs, ys)
    i = next(i for i in range(len(xs) - 1) if xs[i] < sigma < xs[i + 1])
    step = xs[i + 1] - xs[i]
    t = (sigma - xs[i]) / step
    return (
        (1 + 2 * t) * (1 - t) ** 2 * ys[i]
        + t * (1 - t) ** 2 * step * derivatives[i]
        + t**2 * (3 - 2 * t) * ys[i + 1]
        + t**2 * (t - 1) * step * derivatives[i + 1]
    )


def slow_estimate(points: Sequence[AccuracyPoint], sigma: float, votes: int) -> tuple[float, bool]:
    """Accuracy, and whether it lies within the measured points."""
    curves = {
        count: {each.sigma: each.accuracy for each in points if each.votes == count}
        for count in sorted({each.votes for each in points})
    }
    covering = {count: curve for count, curve in curves.items() if min(curve) <= sigma <= max(curve)}
    inside = any(count <= votes for count in covering) and any(count >= votes for count in covering)
    sigmas = sorted(sigma for curve in curves.values() for sigma in curve)
    nearest = sigma if covering else min(sigmas, key=lambda each: abs(each - sigma))
    used = {count: curve for count, curve in curves.items() if min(curve) <= nearest <= max(curve)}
    wanted = min(max(votes, min(used)), max(used))
    below, above = max(c for c in used if c <= wanted), min(c for c in used if c >= wanted)
    ends = [slow_curve(used[count], nearest) for count in (below, above)]
    share = 0.0 if below == above else math.log(wanted / below) / math.log(above / below)
    return NORMAL.cdf(ends[0] + share * (ends[1] - ends[0])), inside


def assert_same(found: Estimate, expected: tuple[float, bool]) -> None:
    """Equal, but for the clipping of accuracies 0 and 1 by half an image."""
    assert found.inside == expected[1]
    assert found.accuracy == pytest.approx(expected[0], abs=0.5 / IMAGES + 1e-9)
    if min(p.accuracy for p in found.points) > 0 and max(p.accuracy for p in found.points) < 1:
        assert found.accuracy == pytest.approx(expected[0], abs=1e-9)


@given(tables(), SIGMAS, VOTES)
def test_estimates_are_those_of_the_reference(points: list[AccuracyPoint], sigma: float, votes: int) -> None:
    """At any sigma and votes, on any table, holes and edges included."""
    assert_same(table_of(*points).estimate(sigma, votes), slow_estimate(points, sigma, votes))


@given(tables(), st.lists(SIGMAS, min_size=1, max_size=5), st.lists(VOTES, min_size=1, max_size=5))
def test_the_grid_is_the_estimates(points: list[AccuracyPoint], sigmas: list[float], votes: list[int]) -> None:
    """Accuracy, lower bound and inside or not, for every pair of sigma and votes, to the last bit."""
    table = table_of(*points)
    grid = table.grid(sigmas, votes, alpha=0.1)
    for v, count in enumerate(votes):
        for s, sigma in enumerate(sigmas):
            one = table.estimate(sigma, count)
            assert grid.inside[v, s] == one.inside
            if one.inside:
                assert grid.accuracy[v, s] == one.accuracy
                assert grid.lower_bound[v, s] == one.lower_bound(0.1)


@given(tables(), SIGMAS, VOTES, st.randoms(use_true_random=False))
def test_estimates_lie_between_their_points_in_whatever_order_these_come(
    points: list[AccuracyPoint], sigma: float, votes: int, shuffler: random.Random
) -> None:
    """And the points are measured ones around the place: one at each corner, a single one where it was measured."""
    found = table_of(*points).estimate(sigma, votes)
    assert min(p.accuracy for p in found.points) <= found.accuracy <= max(p.accuracy for p in found.points)
    assert {(p.sigma, p.votes, p.accuracy) for p in found.points} <= {(p.sigma, p.votes, p.accuracy) for p in points}
    if found.inside:
        assert min(p.sigma for p in found.points) <= sigma <= max(p.sigma for p in found.points)
        assert min(p.votes for p in found.points) <= votes <= max(p.votes for p in found.points)
    shuffler.shuffle(points)
    assert table_of(*points).estimate(sigma, votes) == found


@given(tables())
def test_a_measured_point_is_given_as_it_was_measured(points: list[AccuracyPoint]) -> None:
    """To the last bit, also accuracies of 0 and 1."""
    table = table_of(*points)
    for each in points:
        found = table.estimate(each.sigma, each.votes)
        assert (found.accuracy, found.inside, len(found.points)) == (each.accuracy, True, 1)


def test_between_two_points_the_margin_is_linear() -> None:
    """Halfway between margins of 3 and 1 standard deviations it is 2; √20 votes are halfway from 1 to 20."""
    high, low = (NORMAL.cdf(margin) for margin in (3, 1))
    by_sigma = table_of(point(0.2, high, images=10**6), point(0.6, low, images=10**6))
    assert by_sigma.estimate(0.4, 20).accuracy == pytest.approx(NORMAL.cdf(2))
    by_votes = table_of(point(0.5, low, votes=1, images=10**6), point(0.5, high, votes=25, images=10**6))
    assert by_votes.estimate(0.5, 5).accuracy == pytest.approx(NORMAL.cdf(2))


def test_a_dip_at_two_votes_stays_a_dip() -> None:
    """More votes are not taken to be better than fewer."""
    table = table_of(point(0.5, 0.8, votes=1), point(0.5, 0.7, votes=2), point(0.5, 0.9, votes=3))
    assert [table.estimate(0.5, votes).accuracy for votes in (1, 2, 3)] == [0.8, 0.7, 0.9]


@pytest.mark.parametrize(
    ("sigma", "votes", "nearest"), [(1.5, 20, 0.6), (0.5, 21, 0.9), (0.1, 20, 0.9), (3.0, 99, 0.6)]
)
def test_outside_the_table_the_nearest_point_counts_and_the_estimate_says_so(
    sigma: float, votes: int, nearest: float
) -> None:
    """Nothing is extrapolated."""
    found = table_of(point(0.5, 0.9), point(1.0, 0.6)).estimate(sigma, votes)
    assert (found.accuracy, found.inside) == (nearest, False)


@pytest.mark.parametrize("sigma", [0.9, 1.0, 3.0])
def test_a_few_votes_at_this_noise_say_more_than_many_at_less(sigma: float) -> None:
    """A variant that fails with 5 votes is not taken to be good with 20, because it was so at a smaller sigma."""
    ragged = table_of(
        *(point(0.4, 0.9, votes=votes) for votes in (5, 20)), point(0.9, 0.1, votes=5), point(1.0, 0.1, votes=5)
    )
    found = ragged.estimate(sigma, 20)
    assert (found.accuracy, found.inside) == (0.1, False)


def test_points_measured_with_reads_count_at_their_effective_sigma() -> None:
    """A point at sigma 1 with 4 reads is a point at sigma 0.5."""
    found = table_of(point(0.0, 1.0), point(1.0, 0.8, reads=4)).estimate(0.5, 20)
    assert (found.accuracy, found.points[0].sigma) == (0.8, 0.5)


def test_sigmas_that_differ_by_rounding_are_one() -> None:
    """1.2/√9 and 0.4 are pooled into one point, and asking for either finds it."""
    assert effective_sigma(1.2, 9) != 0.4
    table = table_of(point(0.0, 1.0), point(0.4, 0.8), point(1.2, 0.6, reads=9))
    assert len(table.sigmas) == 2
    for sigma in (0.4, effective_sigma(1.2, 9)):
        found = table.estimate(sigma, 20)
        assert found.accuracy == pytest.approx(0.7)
        assert (len(found.points), found.inside) == (1, True)


def test_repeated_measurements_are_pooled_by_their_images() -> None:
    """300 images at 0.8 and 100 at 0.4 make 0.7, on at least 300 different images."""
    (pooled,) = table_of(point(0.5, 0.8, images=300), point(1.0, 0.4, reads=4, images=100)).estimate(0.5, 20).points
    assert pooled.accuracy == pytest.approx(0.7)
    assert pooled.images == 300


def test_without_noise_the_kind_does_not_matter() -> None:
    """A point at sigma 0 serves both kinds; with noise the other kind's points say nothing, nor does it alone."""
    clean = variant(accuracy=[point(0.0, 0.99), point(0.5, 0.9)])
    tables = [accuracy_table(clean, kind, 0.0) for kind in ("additive", "multiplicative")]
    assert [table.estimate(0.0, 20).accuracy for table in tables if table] == [0.99, 0.99]
    assert accuracy_table(clean, "additive", 0.1) is None
    assert accuracy_table(variant(accuracy=[point(0.0, 0.99)]), "multiplicative", 0.1) is None


def test_the_standard_error_is_that_of_so_many_images() -> None:
    """Half right of 100: 0.05. Between points, the fewer images count."""
    assert table_of(point(0.5, 0.5)).estimate(0.5, 20).standard_error == pytest.approx(0.05)
    found = table_of(point(0.4, 0.5, images=100), point(0.6, 0.5, images=10_000)).estimate(0.5, 20)
    assert found.standard_error == pytest.approx(0.05)


@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from([0.01, 0.05, 0.3]))
def test_the_lower_bound_is_clopper_pearsons_of_the_worst_point_around(one: int, other: int, alpha: float) -> None:
    """At a point it is that of its right images; between points, the least of theirs."""
    table = table_of(point(0.4, one / 300, images=300), point(0.6, other / 300, images=300))
    exact = [
        stats.binomtest(hits, 300, alternative="greater").proportion_ci(1 - alpha, "exact").low for hits in (one, other)
    ]
    assert table.estimate(0.4, 20).lower_bound(alpha) == pytest.approx(exact[0], abs=1e-9)
    assert table.estimate(0.5, 20).lower_bound(alpha) == pytest.approx(min(exact), abs=1e-9)


def test_a_mean_over_repetitions_is_bounded_by_whole_images() -> None:
    """90.7 of 100 images right on average count as 90."""
    bounds = [table_of(point(0.5, accuracy)).estimate(0.5, 20).lower_bound(0.05) for accuracy in (0.9, 0.907)]
    assert bounds[0] == bounds[1]
    np.testing.assert_array_less(bounds, 0.9)
