"""The accuracy of a variant at any noise and number of votes inside its measured table.

Averaging R reads is exactly noise of sigma/√R, so a table has two axes: *effective* sigma and votes.
Between measured points the probit of the accuracy (the quantile of the normal distribution: the margin in
standard deviations) follows a monotone cubic along sigma for each measured number of votes (PCHIP, Fritsch and
Carlson 1980), and between those a straight line along the logarithm of the votes. Both meet every measured
point and stay between neighbours: they invent neither a peak nor a dip, and nothing is taken for granted, not
even that more votes or less noise are better. docs/architecture.md says how far off this was found to be.

Outside of the measured points nothing is extrapolated: an estimate there is that of the nearest ones, first in sigma,
then in votes, and says so.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from noisevote.model_store.manifest import AccuracyPoint, Variant
from noisevote.model_store.monotone_cubic import MonotoneCubic
from noisevote.noise_op.contract import NoiseKind
from noisevote.voting.bounds import clopper_pearson

# Sigmas that differ by less are the same one, come by different roads (0.3, 0.6/√4, 10.46 dB).
SAME_SIGMA: Final = 1e-9


@dataclass(frozen=True)
class Measurement:
    """What was measured at one effective sigma with one number of votes.

    `images` is the number of test images, `spread` the standard deviation over repetitions on the same
    images, where known.
    """

    sigma: float
    votes: int
    accuracy: float
    images: int
    spread: float | None


@dataclass(frozen=True)
class Estimate:
    """An accuracy and where it comes from.

    `inside` tells whether sigma and votes lie within the measured ones; `points` are the measurements around
    them, a single one where exactly this was measured.
    """

    accuracy: float
    inside: bool
    points: tuple[Measurement, ...]

    @property
    def standard_error(self) -> float:
        """Of an accuracy from so many images: √(p(1 − p)/n), n the fewest images of a point.

        It covers the choice of the images and of the noise; where a measurement is the mean over repetitions it is an
        upper bound.
        """
        images = min(point.images for point in self.points)
        return math.sqrt(self.accuracy * (1 - self.accuracy) / images)

    def lower_bound(self, alpha: float) -> float:
        """Lower confidence bound of the accuracy at confidence 1 − alpha: the least of the points' own.

        So it leans on interpolation only in that the accuracy between points is not below all of them.
        """
        return float(_lower_bounds(self.points, alpha).min())


@dataclass(frozen=True)
class Grid:
    """Estimates with V numbers of votes at S effective sigmas; each array is [V, S].

    Where `inside` is false the others say nothing.
    """

    accuracy: NDArray[np.float64]
    lower_bound: NDArray[np.float64]
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class Curve:
    """The points measured with one number of votes, sigma rising."""

    points: tuple[Measurement, ...]

    @property
    def votes(self) -> int:
        """The number of votes."""
        return self.points[0].votes

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """Measured effective sigmas, rising."""
        return tuple(point.sigma for point in self.points)

    @cached_property
    def _probits(self) -> MonotoneCubic:
        accuracies = np.array([point.accuracy for point in self.points])
        half_an_image = 0.5 / np.array([point.images for point in self.points])  # the probits of 0 and 1 are infinite
        probits = special.ndtri(np.clip(accuracies, half_an_image, 1 - half_an_image))
        if len(probits) == 1:  # no curve passes through one point, but it may be asked at that point
            return MonotoneCubic(np.array([self.sigmas[0], self.sigmas[0] + 1]), np.repeat(probits, 2))
        return MonotoneCubic(np.array(self.sigmas), probits)

    def covers(self, sigma: float) -> bool:
        """Whether it lies within the measured ones."""
        return self.sigmas[0] <= sigma <= self.sigmas[-1]

    def clamped(self, sigma: float) -> float:
        """The nearest sigma that is covered."""
        return min(max(sigma, self.sigmas[0]), self.sigmas[-1])

    def probits(self, sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probits of the accuracies at covered sigmas [S]."""
        return self._probits(sigmas)

    def around(self, sigma: float) -> tuple[Measurement, ...]:
        """The measurement at a covered sigma, or the two that it lies between."""
        above = bisect_left(self.sigmas, sigma)
        return self.points[above if self.sigmas[above] == sigma else above - 1 : above + 1]


@dataclass(frozen=True)
class AccuracyTable:
    """Measurements of one variant under one noise kind: a curve for each number of votes, votes rising."""

    curves: tuple[Curve, ...]

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """All measured effective sigmas, rising."""
        return tuple(sorted({sigma for curve in self.curves for sigma in curve.sigmas}))

    @property
    def votes(self) -> tuple[int, ...]:
        """All measured numbers of votes, rising."""
        return tuple(curve.votes for curve in self.curves)

    def estimate(self, sigma: float, votes: int) -> Estimate:
        """The accuracy at one effective sigma with one number of votes."""
        sigma = self._snapped(sigma)
        covered = any(curve.covers(sigma) for curve in self.curves)
        # Nearest in sigma first: a few votes at this noise say more about many than many votes at another one do.
        sigma = sigma if covered else min(self.sigmas, key=lambda each: abs(each - sigma))
        curves = [curve for curve in self.curves if curve.covers(sigma)]
        inside = covered and curves[0].votes <= votes <= curves[-1].votes
        votes = min(max(votes, curves[0].votes), curves[-1].votes)
        above = next(curve for curve in curves if curve.votes >= votes)
        below = next(curve for curve in reversed(curves) if curve.votes <= votes)
        ends = (below,) if below is above else (below, above)
        points = tuple(point for curve in ends for point in curve.around(sigma))
        probits = [curve.probits(np.array([sigma]))[0] for curve in ends]
        accuracy = special.ndtr(probits[0] + _share(below.votes, above.votes, votes) * (probits[-1] - probits[0]))
        # The way to the probit and back rounds; what was measured is given as it was measured.
        lowest, highest = (bound(point.accuracy for point in points) for bound in (min, max))
        return Estimate(float(min(max(accuracy, lowest), highest)), inside, points)

    def grid(self, sigmas: Sequence[float], votes: Sequence[int], alpha: float) -> Grid:
        """The estimates inside the table at all effective sigmas [S] with all numbers of votes [V].

        They are those of `estimate`, much faster; `alpha` is the one of `Estimate.lower_bound`.
        """
        snapped = [self._snapped(sigma) for sigma in sigmas]
        covered = np.array([[curve.covers(sigma) for sigma in snapped] for curve in self.curves])  # [curves, S]
        columns = np.array([_columns(curve, snapped, alpha) for curve in self.curves])  # [curves, 4, S]
        counts = np.array(self.votes)
        wanted = np.array(votes)[:, np.newaxis]
        # Of the curves that cover a sigma, the ones with the nearest votes on both sides [V, S].
        at_most = covered & (counts[:, np.newaxis] <= wanted[:, np.newaxis])  # [V, curves, S]
        at_least = covered & (counts[:, np.newaxis] >= wanted[:, np.newaxis])
        below, above = len(counts) - 1 - at_most[:, ::-1].argmax(axis=1), at_least.argmax(axis=1)
        inside = np.asarray(at_most.any(axis=1) & at_least.any(axis=1))
        place = np.arange(len(snapped))
        (low_probit, *low), (high_probit, *high) = (
            columns[side, :, place].transpose(2, 0, 1) for side in (below, above)
        )
        share = _share(counts[below], counts[above], wanted)
        accuracy = special.ndtr(low_probit + share * (high_probit - low_probit))
        lowest, bound = np.minimum(low[0], high[0]), np.minimum(low[2], high[2])
        return Grid(np.clip(accuracy, lowest, np.maximum(low[1], high[1])), bound, inside)

    def _snapped(self, sigma: float) -> float:
        """The measured sigma that this one is, or itself."""
        above = bisect_left(self.sigmas, sigma)
        near = self.sigmas[max(0, above - 1) : above + 1]
        return next((each for each in near if math.isclose(each, sigma, rel_tol=SAME_SIGMA)), sigma)


def _columns(curve: Curve, sigmas: Sequence[float], alpha: float) -> NDArray[np.float64]:
    """Probit, and of the measurements around: lowest and highest accuracy, least lower bound; each [S]."""
    clamped = np.array([curve.clamped(sigma) for sigma in sigmas])
    above = np.searchsorted(curve.sigmas, clamped)
    below = above - (np.array(curve.sigmas)[above] != clamped)
    accuracies = np.array([point.accuracy for point in curve.points])
    bounds = _lower_bounds(curve.points, alpha)
    return np.array(
        [
            curve.probits(clamped),
            np.minimum(accuracies[below], accuracies[above]),
            np.maximum(accuracies[below], accuracies[above]),
            np.minimum(bounds[below], bounds[above]),
        ]
    )


def _share(below: NDArray[np.int64] | int, above: NDArray[np.int64] | int, votes: NDArray[np.int64] | int) -> Any:
    """How far the votes are on the way from `below` to `above`, in logarithm: 0 … 1."""
    way = np.log(above) - np.log(below)
    return np.where(way > 0, np.log(votes) - np.log(below), 0) / np.where(way > 0, way, 1)


def effective_sigma(sigma: float, reads: int) -> float:
    """Sigma after averaging `reads` independent reads: sigma/√reads, exactly."""
    return sigma / math.sqrt(reads)


def accuracy_table(variant: Variant, noise: NoiseKind, sigma: float) -> AccuracyTable | None:
    """What is measured of a variant under a noise kind; None if that says nothing about this sigma.

    Without noise (sigma 0) both kinds are the same thing, so points at sigma 0 serve either kind; alone they
    say nothing about noise.
    """
    return _table(variant.accuracy, noise, noiseless=sigma == 0)


# Tables are immutable, few, and asked over and over.
@lru_cache(maxsize=1024)
def _table(points: tuple[AccuracyPoint, ...], noise: NoiseKind, *, noiseless: bool) -> AccuracyTable | None:
    known = [point for point in points if point.noise == noise or point.sigma == 0]
    if not known or (not noiseless and all(point.sigma == 0 for point in known)):
        return None
    cells: dict[int, dict[float, list[AccuracyPoint]]] = {}
    for sigma, same in _by_sigma(known):
        for point in same:
            cells.setdefault(point.votes, {}).setdefault(sigma, []).append(point)
    return AccuracyTable(
        tuple(
            Curve(tuple(_pooled(sigma, repeated) for sigma, repeated in cells[votes].items()))
            for votes in sorted(cells)
        )
    )


def _by_sigma(points: Sequence[AccuracyPoint]) -> list[tuple[float, list[AccuracyPoint]]]:
    """The points of each effective sigma, rising."""
    ordered = sorted((effective_sigma(point.sigma, point.reads), i) for i, point in enumerate(points))
    groups = [(ordered[0][0], [points[ordered[0][1]]])]
    for (before, _), (sigma, i) in pairwise(ordered):
        if math.isclose(before, sigma, rel_tol=SAME_SIGMA):
            groups[-1][1].append(points[i])
        else:
            groups.append((sigma, [points[i]]))
    return groups


def _pooled(sigma: float, points: Sequence[AccuracyPoint]) -> Measurement:
    """One measurement out of repeated ones, weighted by their images, which may be the same ones each time."""
    right = math.fsum(point.accuracy * point.images for point in points)
    once = len(points) == 1
    return Measurement(
        sigma=sigma,
        votes=points[0].votes,
        accuracy=points[0].accuracy if once else min(1.0, right / sum(point.images for point in points)),
        images=max(point.images for point in points),
        spread=points[0].spread if once else None,
    )


def _lower_bounds(points: Sequence[Measurement], alpha: float) -> NDArray[np.float64]:
    """Clopper and Pearson's bound of each point, from the whole images that were right on average."""
    images = np.array([point.images for point in points])
    right = np.floor(np.array([point.accuracy for point in points]) * images + 1e-6).astype(np.int64)
    return clopper_pearson(right, images, alpha)
