"""The accuracies that Qin and Vučinić report, in %, by network, noise kind and sigma (their Tables 2 to 9)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from noisevote.noise_op.contract import NoiseKind

SIGMAS: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
VOTES: Final = 20

Row = tuple[float, ...]  # one accuracy in % for each of SIGMAS


@dataclass(frozen=True)
class Reported:
    """Noiseless training and the best σ_train at each sigma, one run each; the latter with 20 votes, if reported."""

    noiseless_training: Row
    one_run: Row
    voted: Row | None


REPORTED: Final[Mapping[tuple[str, NoiseKind], Reported]] = {
    ("mnist-cnn", "multiplicative"): Reported(
        (99.5, 99.3, 93.5, 65.7, 38.8, 21.1),
        (99.6, 99.5, 99.3, 94.6, 86.1, 77.7),
        (99.6, 99.6, 99.6, 99.6, 99.6, 99.5),
    ),
    ("mnist-cnn", "additive"): Reported(
        (99.5, 99.3, 95.8, 80.5, 58.8, 38.7),
        (99.6, 99.5, 99.4, 99.2, 99.0, 98.4),
        None,
    ),
    ("cifar10-densenet40", "multiplicative"): Reported(
        (92.5, 91.9, 88.5, 78.7, 60.4, 29.9),
        (92.8, 92.4, 91.5, 85.6, 75.7, 66.9),
        (92.8, 92.7, 92.7, 92.8, 91.3, 89.1),
    ),
    ("stroke-lstm", "multiplicative"): Reported(
        (94.8, 88.0, 49.8, 23.6, 17.0, 15.5),
        (95.6, 95.7, 94.3, 87.3, 77.0, 66.9),
        (95.6, 96.1, 95.9, 94.6, 92.7, 89.6),
    ),
}

# The paper has no other network for CIFAR-10: ours stands beside its DenseNet-40.
STANDS_BESIDE: Final[Mapping[str, str]] = {"cifar10-cnn": "cifar10-densenet40"}


def reported(network: str, noise: NoiseKind) -> Reported | None:
    """The paper's figures that a network's are set beside."""
    return REPORTED.get((STANDS_BESIDE.get(network, network), noise))
