"""Networks to be certified by randomised smoothing: their one noise site is at the input, before any normalisation.

So additive noise of sigma is Gaussian noise on the pixels, as certificates have it (Cohen et al. 2019); what
follows is digital and noiseless.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from noisevote.noise_op.torch_twin import GaussianNoise
from noisevote.training.networks.cifar_cnn import CIFAR10_MEAN, CIFAR10_STD, WIDTH
from noisevote.training.networks.network import Network


class Smoothed(Network):
    """Input noise, then `layers`: [N, *input_shape] in [0, 1] to logits [rows, 10]."""

    noise_on_input = True
    layers: nn.Module

    def __init__(self, *, free_scale: bool) -> None:
        super().__init__(free_scale=free_scale)
        self.noise = GaussianNoise(0, fan_out=True)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the images, drawing noise from the surrounding `noise_op.torch_twin.drawing`."""
        return self.layers(self.noise(images))  # type: ignore[no-any-return]  # untyped __call__


class MnistSmoothed(Smoothed):
    """The LeNet of public certified-smoothing code: convolutions 5×5 of 20 and 50 channels, then 500 and 10."""

    title = "MNIST digits, LeNet under input noise"
    description = "Handwritten digits; Gaussian noise on the pixels alone, for certificates."
    preprocessing = "None."
    input_shape = (1, 28, 28)
    data_set = "mnist"
    recipe_defaults: ClassVar[Mapping[str, Any]] = {
        "noise": "additive",
        "sigma_train": 0.5,
        "ramp_epochs": 0.0,
        "lr": 2e-3,
        "weight_decay": 1e-4,
        "loss_votes": 4,
        "mix_weight": 5.0,
        "shift_pixels": 0.0,
        "rotate_degrees": 0.0,
        "scale": 0.0,
        "norm_batches": 0,
    }

    def __init__(self, *, free_scale: bool) -> None:
        super().__init__(free_scale=free_scale)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(4 * 4 * 50, 500), nn.ReLU(), nn.Linear(500, 10),
        )  # fmt: skip  # a stage a line


class _Sum(nn.Module):
    """The input plus two stages' answer to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(_stage(channels, channels), _stage(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.stages(x)  # type: ignore[no-any-return]  # untyped __call__


class _Normalised(nn.Module):
    """Per colour minus the mean, divided by the standard deviation of CIFAR-10."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(CIFAR10_MEAN).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(CIFAR10_STD).reshape(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class CifarSmoothed(Smoothed):
    """The layers of `cifar10-cnn`, without noise between them: eight convolutions in two residual pairs, then 10."""

    title = "CIFAR-10, small fast CNN under input noise"
    description = "Photographs of ten kinds of things; Gaussian noise on the pixels alone, for certificates."
    preprocessing = "Inside the graph, after the noise: per colour minus the mean, divided by the standard deviation."
    input_shape = (3, 32, 32)
    data_set = "cifar10"
    recipe_defaults: ClassVar[Mapping[str, Any]] = {
        "noise": "additive",
        "sigma_train": 0.25,
        "ramp_epochs": 0.0,
        "epochs": 40,
        "lr": 3e-3,
        "weight_decay": 0.02,
        "loss_votes": 2,
        "consistency": 10.0,
        "shift_pixels": 0.0,
        "rotate_degrees": 0.0,
        "scale": 0.0,
        "crop_pixels": 4,
        "flip": True,
    }

    def __init__(self, *, free_scale: bool) -> None:
        super().__init__(free_scale=free_scale)
        w = WIDTH
        self.layers = nn.Sequential(
            _Normalised(), _stage(3, w), _stage(w, 2 * w), nn.AvgPool2d(2), _Sum(2 * w), _stage(2 * w, 4 * w),
            nn.AvgPool2d(2), _stage(4 * w, 8 * w), nn.AvgPool2d(2), _Sum(8 * w),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * w, 10),
        )  # fmt: skip  # as `cifar10-cnn` lists them


def _stage(channels_in: int, channels_out: int) -> nn.Sequential:
    """Convolution 3×3 that keeps height and width – batch norm – ReLU."""
    product = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(product, nn.BatchNorm2d(channels_out), nn.ReLU())
