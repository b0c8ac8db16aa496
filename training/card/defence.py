"""What one loan of a graphics card trains for the defence, the most valuable first."""

from typing import Any, Final

from noisevote.training.card.run import Run

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


def _smoothed(network: str, sigma: float, until: float, **given: Any) -> Run:
    return Run(
        f"{network}-{sigma}", "train", until, network, {"sigma_train": sigma, "holdout": 5000, **given},
        half=network.startswith("cifar10"), common=True,
    )  # fmt: skip  # as the plan below


# Seeds differ where networks must differ; the robust network that stands PGD best on held-out images is published.
DEFENCE: Final = (
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
         "adversarial_iterations": 7}, init=("cifar10-cnn", "mul-0.2")),
    Run("cifar10-densenet40-mix", "train", 0.58, "cifar10-densenet40",
        {**CIFAR, "epochs": 16, "batch": 128, "lr": 0.1, "crop_pixels": 4, "flip": True, "adversarial_share": 0.5,
         "adversarial_step": 5 / 255, "adversarial_iterations": 2, "holdout": 1000}, half=True,
        init=("cifar10-densenet40", "mul-0.6")),
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
