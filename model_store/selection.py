"""Which variant serves best, by the manifest's measured accuracies."""

import math
from collections.abc import Iterable

from noisevote.model_store.accuracy_table import SAME_SIGMA, Estimate, accuracy_table, effective_sigma
from noisevote.model_store.manifest import Variant
from noisevote.noise_op.contract import NoiseKind


class NoVariantsError(ValueError):
    """There is nothing to choose from."""

    def __init__(self) -> None:
        super().__init__("variants: none to choose from")


def estimate(variant: Variant, noise: NoiseKind, sigma: float, votes: int, reads: int = 1) -> Estimate | None:
    """The variant's accuracy at this noise with so many votes; None if its table has nothing on the noise kind."""
    table = accuracy_table(variant, noise, sigma)
    return None if table is None else table.estimate(effective_sigma(sigma, reads), votes)


def measured_range(variant: Variant, noise: NoiseKind) -> tuple[float, float] | None:
    """Least and largest effective sigma of a noise kind in the variant's table; without noise, kinds are alike.

    An int8 twin is calibrated for these: beyond them its bytes end before its signals do.
    """
    points = [point for point in variant.accuracy if point.noise == noise or point.sigma == 0]
    sigmas = [effective_sigma(point.sigma, point.reads) for point in points]
    return (min(sigmas), max(sigmas)) if sigmas else None


def measured_around(variant: Variant, noise: NoiseKind, sigma: float, reads: int = 1) -> bool:
    """Whether this noise lies within what the variant was measured at."""
    found = measured_range(variant, noise)
    return found is not None and found[0] - SAME_SIGMA <= effective_sigma(sigma, reads) <= found[1] + SAME_SIGMA


def select(variants: Iterable[Variant], noise: NoiseKind, sigma: float, votes: int, reads: int = 1) -> Variant:
    """The variant with the best estimated accuracy; equal ones: the smaller σ_train, then the name.

    Outside of what was measured, accuracies at the nearest measured points are compared, nearest in sigma first,
    then in votes. Variants without a measurement of the noise kind come after all measured ones: those trained
    under it first, then by how near their σ_train is to the effective sigma.

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
