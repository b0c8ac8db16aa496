"""Intervals of what attacks leave, and radii of certificates, from the records' votes."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from noisevote.training.attack.records import FullAccess, Votes
from noisevote.voting.bounds import clopper_pearson

LEVEL: Final = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval of confidence 95 % around it, as shares."""

    estimate: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What a difference is: a gain or a loss only where the interval lies on one side of 0."""
        return "gain" if self.low > 0 else "loss" if self.high < 0 else "none"


def share(right: NDArray[np.bool_]) -> Interval:
    """Share of right images; Clopper and Pearson's interval over images, bool [images]."""
    count, tail = int(right.sum()), (1 - LEVEL) / 2
    images, successes = np.array([len(right)]), np.array([count])
    low = float(clopper_pearson(successes, images, tail)[0])
    high = 1 - float(clopper_pearson(images - successes, images, tail)[0])
    return Interval(count / len(right), low, high)


def over_noise(cell: Votes) -> Interval:
    """Accuracy of one run: mean of the runs, and Student's interval over their independent noise."""
    accuracies = np.array(cell.runs) / len(cell.outcome)
    mean = float(accuracies.mean())
    if len(accuracies) < 2:
        return Interval(mean, mean, mean)
    half = _student(len(accuracies)) * float(accuracies.std(ddof=1)) / len(accuracies) ** 0.5
    return Interval(mean, mean - half, mean + half)


def paired(noisy: Votes, noiseless: Votes, *, voted: bool, places: int = 1) -> Interval:
    """What noise gains over none on the same images, with the interval over images of the paired difference.

    Args:
        noisy: votes under noise.
        noiseless: one vote of each of at least as many images.
        voted: of the decision of all votes, instead of the mean of single ones.
        places: how many such intervals are to hold together with 95 % (Bonferroni).
    """
    images = min(len(noisy.outcome), len(noiseless.outcome))
    ours = noisy.outcome.decisions if voted else noisy.outcome.counts / noisy.votes
    return difference(np.asarray(ours[:images], float), noiseless.outcome.decisions[:images], places)


def difference(ours: NDArray[Any], theirs: NDArray[Any], places: int = 1) -> Interval:
    """Mean difference of paired outcomes [images], with Student's interval over images; `places` as in `paired`.

    Where no image differs, the interval is what as many images that do not differ say of the share that does.
    """
    differences = np.asarray(ours, float) - np.asarray(theirs, float)
    images, mean = len(differences), float(differences.mean())
    half = _student(images, places) * float(differences.std(ddof=1)) / images**0.5
    if not differences.any():
        half = 1 - float((1 - LEVEL) / 2 / places) ** (1 / images)
    return Interval(mean, mean - half, mean + half)


def by_image(record: FullAccess) -> dict[int, bool]:
    """Number of each test image that was attacked to whether it is still decided rightly."""
    return {image: bool(record.attacked.decisions[place]) for image, place in record.places.items()}


def _student(samples: int, places: int = 1) -> float:
    return float(special.stdtrit(samples - 1, 1 - (1 - LEVEL) / 2 / places))


def certified_radii(
    sigma: float, right: NDArray[np.bool_], count: NDArray[np.int64], n: int, alpha: float
) -> NDArray[np.float64]:
    """Certified radius of each image whose certified class is its label, else −1 (Cohen et al. 2019, algorithm 1).

    Args:
        sigma: standard deviation of the noise at the input.
        right: whether the selected class is the label, [images].
        count: estimating votes for it, int64 [images].
        n: estimating votes.
        alpha: error probability of each certificate.
    """
    bounds = clopper_pearson(count, np.full_like(count, n), alpha)
    return np.where(right & (bounds > 0.5), sigma * special.ndtri(bounds), -1.0)
