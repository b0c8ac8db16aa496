"""Which variant serves best, by the manifest's measured accuracies.

Averaging R reads is exactly noise of sigma/√R, so measured points and requests are compared at their
*effective* sigma. Between measured sigmas the accuracy is interpolated linearly; outside of them it is
that of the nearest measured sigma, and the estimate says so.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from model_store.manifest import AccuracyPoint, NoiseKind, Variant


class NoVariantsError(ValueError):
    """There is nothing to choose from."""

    def __init__(self) -> None:
        super().__init__("variants: none to choose from")


@dataclass(frozen=True)
class Estimate:
    """Accuracy read off a measured table.

    `votes` is the measured number of votes that was taken (the nearest to the one asked for, in
    logarithm); `measured` tells whether the effective sigma lies within the measured ones.
    """

    accuracy: float
    votes: int
    measured: bool


def effective_sigma(sigma: float, reads: int) -> float:
    """Sigma after averaging `reads` independent reads: sigma/√reads, exactly."""
    return sigma / math.sqrt(reads)


def estimate(variant: Variant, noise: NoiseKind, sigma: float, votes: int, reads: int = 1) -> Estimate | None:
    """The variant's accuracy at this noise with so many votes; None if its table has nothing on the noise kind.

    Without noise (sigma 0) both kinds are the same thing, so points at sigma 0 serve either kind.
    """
    points = [point for point in variant.accuracy if point.noise == noise or point.sigma == 0]
    wanted = effective_sigma(sigma, reads)
    if wanted > 0 and not any(point.noise == noise for point in points):
        return None
    if not points:
        return None
    nearest = min({point.votes for point in points}, key=lambda measured: (abs(math.log(measured / votes)), measured))
    sigmas, accuracies = _curve(point for point in points if point.votes == nearest)
    accuracy = float(np.interp(wanted, sigmas, accuracies))
    return Estimate(accuracy, nearest, measured=sigmas[0] <= wanted <= sigmas[-1])


def _curve(points: Iterable[AccuracyPoint]) -> tuple[list[float], list[float]]:
    """Rising effective sigmas and the accuracy at each; repeated measurements are pooled by their images."""
    pooled: dict[float, tuple[float, int]] = {}
    for point in points:
        sigma = effective_sigma(point.sigma, point.reads)
        right, images = pooled.get(sigma, (0.0, 0))
        pooled[sigma] = (right + point.accuracy * point.images, images + point.images)
    sigmas = sorted(pooled)
    return sigmas, [pooled[sigma][0] / pooled[sigma][1] for sigma in sigmas]


def select(variants: Iterable[Variant], noise: NoiseKind, sigma: float, votes: int, reads: int = 1) -> Variant:
    """The variant with the best estimated accuracy; equal ones: the smaller σ_train, then the name.

    Variants without a measurement of the noise kind come after all measured ones: those trained under
    it first, then by how near their σ_train is to the effective sigma.

    Raises:
        NoVariantsError: `variants` is empty.
    """

    def rank(variant: Variant) -> tuple[float, bool, float, float, str]:
        known = estimate(variant, noise, sigma, votes, reads)
        distance = abs(variant.sigma_train - effective_sigma(sigma, reads))
        unmeasured = (variant.noise != noise, distance) if known is None else (False, 0.0)
        return (math.inf if known is None else -known.accuracy, *unmeasured, variant.sigma_train, variant.name)

    ranked = sorted(variants, key=rank)
    if not ranked:
        raise NoVariantsError
    return ranked[0]
