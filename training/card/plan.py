"""What one loan of a graphics card trains for the defence, the most valuable first."""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from noisevote.training.networks.registry import named
from noisevote.training.runs.recipe import Recipe

EPS_CIFAR: Final = 8 / 255
# Whole-pixel shifts keep ink black and paper white, which robust networks for MNIST live from.
NO_MAP: Final[dict[str, Any]] = {"shift_pixels": 0.0, "rotate_degrees": 0.0, "scale": 0.0}
MNIST: Final[dict[str, Any]] = {
    **NO_MAP, "sigma_train": 0.0, "ramp_epochs": 0.0, "batch": 256, "lr": 2e-3, "holdout": 5000, "norm_batches": 50,
}  # fmt: skip
ROBUST: Final[dict[str, Any]] = {**MNIST, "adversarial_share": 1.0, "epochs": 40}
CIFAR: Final[dict[str, Any]] = {
    "sigma_train": 0.0, "ramp_epochs": 0.0, "output_votes": 1, "holdout": 5000, "norm_batches": 50,
    "adversarial_eps": EPS_CIFAR, "adversarial_ramp_epochs": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One process of the card's work.

    Attributes:
        name: of its run folder.
        kind: training, or crafting with the network of the run named in `source`.
        network: what it trains; for crafting, empty.
        given: recipe fields that differ from the network's own defaults.
        until: share of the whole time after which it has ended.
        half: its weights are brought back in 16 bits, as there is only so much room.
        common: whether it yields to the others where the card can do so.
        source: for crafting, the run that is attacked.
    """

    name: str
    kind: Literal["train", "craft"]
    until: float
    network: str = ""
    given: dict[str, Any] = field(default_factory=dict)
    half: bool = False
    common: bool = False
    source: str = ""

    def recipe(self, init: str | None = None) -> Recipe:
        """The whole recipe."""
        start = {} if init is None else {"init": init}
        return Recipe.model_validate(
            {**named(self.network).recipe_defaults, **self.given, **start, "network": self.network}
        )


def _smoothed(network: str, sigma: float, until: float, **given: Any) -> Run:
    return Run(
        f"{network}-{sigma}", "train", until, network, {"sigma_train": sigma, "holdout": 5000, **given},
        half=network.startswith("cifar10"), common=True,
    )  # fmt: skip  # as the plan below


# Seeds differ where networks must differ; the robust network that stands PGD best on held-out images is published.
PLAN: Final = (
    Run("mnist-madry-mix", "train", 0.34, "mnist-madry",
        {**MNIST, "lr": 1e-3, "adversarial_share": 0.5, "epochs": 20, "norm_batches": 0}, half=True),
    Run("mnist-cnn-robust-1", "train", 0.86, "mnist-cnn", {**ROBUST, "seed": 1}),
    Run("mnist-cnn-robust-2", "train", 0.86, "mnist-cnn",
        {**ROBUST, "seed": 2, "lr": 4e-3, "crop_pixels": 1, "adversarial_eps": 0.32, "adversarial_step": 0.08}),
    Run("mnist-cnn-mix", "train", 0.7, "mnist-cnn", {**MNIST, "adversarial_share": 0.5, "seed": 3, "epochs": 25}),
    Run("mnist-cnn-robust-noise", "train", 0.86, "mnist-cnn",
        {**ROBUST, "seed": 4, "sigma_train": 0.3, "ramp_epochs": 2.0}),
    Run("cifar10-cnn-robust", "train", 0.9, "cifar10-cnn",
        {**CIFAR, "epochs": 40, "batch": 256, "lr": 3e-3, "adversarial_share": 1.0, "adversarial_step": 2 / 255,
         "adversarial_iterations": 7}),
    Run("cifar10-densenet40-mix", "train", 0.58, "cifar10-densenet40",
        {**CIFAR, "epochs": 16, "batch": 128, "lr": 0.1, "crop_pixels": 4, "flip": True, "adversarial_share": 0.5,
         "adversarial_step": 5 / 255, "adversarial_iterations": 2, "holdout": 1000}, half=True),
    _smoothed("mnist-smoothed", 0.25, 0.8, epochs=90, mix_iterations=2, mix_one_step=True),
    _smoothed("mnist-smoothed", 0.5, 0.8, epochs=90, mix_iterations=4),
    _smoothed("mnist-smoothed", 1.0, 0.8, epochs=90, mix_iterations=8, mix_one_step=True),
    _smoothed("cifar10-smoothed", 0.25, 0.8, batch=256, epochs=50),
    _smoothed("cifar10-smoothed", 0.5, 0.8, batch=256, epochs=50),
    Run("mnist-transfer", "craft", 0.97, source="mnist-madry-mix"),
    Run("cifar10-transfer", "craft", 0.97, source="cifar10-densenet40-mix"),
    Run("mnist-madry-natural", "train", 0.25, "mnist-madry", {**MNIST, "lr": 1e-3, "epochs": 6}, half=True,
        common=True),
)  # fmt: skip  # a run a paragraph

INITS: Final = {
    "cifar10-cnn-robust": ("cifar10-cnn", "mul-0.2"),
    "cifar10-densenet40-mix": ("cifar10-densenet40", "mul-0.6"),
}


def miniature(recipe: Recipe) -> Recipe:
    """The same kind of training, of a minute on a processor."""
    given = {
        "images": 96, "holdout": 32, "batch": 32, "epochs": 3, "norm_batches": min(2, recipe.norm_batches),
        "adversarial_iterations": min(2, recipe.adversarial_iterations), "mix_iterations": 2,
    }  # fmt: skip
    return Recipe.model_validate({**recipe.model_dump(), **given})
