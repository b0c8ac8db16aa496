"""What one loan of a graphics card trains and measures of DenseNet-40, the furthest below the paper first.

Every run goes on from the published weights, so that several loans add up. `augmented` leaves the paper's recipe, the
others keep to it: momentum SGD, noise after products, no augmentation, no teacher.
"""

from typing import Any, Final

from noisevote.training.card.run import Run

NETWORK: Final = "cifar10-densenet40"
GIVEN: Final[dict[str, Any]] = {"ramp_epochs": 0.0, "output_votes": 16, "batch": 128, "lr": 0.1, "seed": 3}
TRAINED: Final = 0.6  # share of the time; the rest measures


def _further(sigma: float, start: str, sigmas: tuple[float, ...], calibrated: tuple[float, ...], **given: Any) -> Run:
    return Run(
        f"{NETWORK}-mul-{sigma}{'-augmented' if given else ''}", "train", TRAINED, NETWORK,
        {**GIVEN, "sigma_train": sigma, "epochs": 40, **given}, init=(NETWORK, start), sigmas=sigmas,
        calibrated=calibrated,
    )  # fmt: skip  # name and times, recipe, what is measured


# With 20 votes a network that was trained under less noise, and calibrated, is the best at sigma 0.8 and 1.
DENSENET: Final = (
    _further(0.8, "mul-1.0", (0.8, 1.0, 0.6), (1.0,)),
    _further(0.4, "mul-0.6", (0.4, 0.2, 0.0), (0.6,)),
    _further(0.6, "mul-0.6", (0.6, 0.4, 0.2, 0.0, 0.8), (0.8,)),
    _further(0.6, "mul-0.6", (0.6, 0.4, 0.2, 0.0, 0.8), (0.8,), crop_pixels=4, flip=True),
)
