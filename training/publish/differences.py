"""How accurate a twin is beside its float32 variant, where both were measured alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from noisevote.evaluation.outcomes import LEVEL_95
from noisevote.model_store.manifest import AccuracyPoint

# Of accuracy, 0.1 points: what a twin may be below its float32 variant.
MOST_BELOW: Final = 0.001
# What rounding leaves of shares of images.
ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Difference:
    """Accuracies of a float32 variant and its twin, of the same images, seeds, draws and votes.

    `error` is the standard error over images of the paired difference; None where each image's votes were not kept.
    """

    point: AccuracyPoint
    twin: AccuracyPoint
    error: float | None = None

    @property
    def gain(self) -> float:
        """By how much the twin is more accurate."""
        return self.twin.accuracy - self.point.accuracy

    @property
    def too_low(self) -> bool:
        """Whether the twin is less accurate than it may be."""
        return self.gain < -MOST_BELOW - ROUNDING

    def __str__(self) -> str:
        at = f"{self.point.noise} sigma {self.point.sigma:.4g}, votes {self.point.votes}"
        interval = "" if self.error is None else f" ± {100 * LEVEL_95 * self.error:.2f}"
        gain = f"{100 * self.gain:+.2f}{interval} points"
        return f"{at}: float32 {self.point.accuracy:.2%}, int8 {self.twin.accuracy:.2%} ({gain})"


def differences(
    original: Sequence[AccuracyPoint],
    twin: Sequence[AccuracyPoint],
    error: Callable[[AccuracyPoint], float | None] = lambda _: None,
) -> list[Difference]:
    """Both accuracies wherever both were measured, on the same images with the same seeds and numbers of votes.

    Args:
        original: the table of the float32 variant, measured with the twin's draws.
        twin: the table of the twin.
        error: of a point of the float32 table, the standard error of the paired difference, if it is known.
    """
    found = {_key(point): point for point in twin}
    return [Difference(each, found[_key(each)], error(each)) for each in original if _key(each) in found]


def _key(point: AccuracyPoint) -> tuple[object, ...]:
    return (point.noise, point.sigma, point.votes, point.reads, point.images, point.seed)
