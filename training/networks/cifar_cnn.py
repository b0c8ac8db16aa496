"""A small fast CNN of our own for CIFAR-10."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from noisevote.noise_op.torch_twin import GaussianNoise
from noisevote.training.networks.layers import NoisyLayer, convolution
from noisevote.training.networks.network import Network

# Per colour over the training images.
CIFAR10_MEAN: Final = (0.4914, 0.4822, 0.4465)
CIFAR10_STD: Final = (0.2470, 0.2435, 0.2616)
WIDTH: Final = 32


class Residual(nn.Module):
    """`x` plus the noisy layers' answer to it; the sum itself is digital, so it adds no noise."""

    def __init__(self, *layers: NoisyLayer) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """The sum, of the shape of `x`."""
        return x + self.layers(x)  # type: ignore[no-any-return]  # untyped __call__


class CifarCnn(Network):
    """Nine products, two residual pairs: [N, 3, 32, 32] in [0, 1] to logits [N, 10].

    The shape is that of the nine-layer residual networks of the fast-training literature (Page 2018, "How to
    Train Your ResNet"), at half their width, with averages where they take the largest value. Of noisy values
    the largest is mostly the one with the largest noise, while a mean of four has half the noise.
    """

    title = "CIFAR-10, small fast CNN"
    description = "Photographs of ten kinds of things; eight convolutions and one fully connected layer."
    preprocessing = "Inside the graph: per colour minus the mean, divided by the standard deviation of CIFAR-10."
    input_shape = (3, 32, 32)
    data_set = "cifar10"
    recipe_defaults: ClassVar[Mapping[str, Any]] = {
        "epochs": 40,
        "lr": 3e-3,
        "weight_decay": 0.02,
        "ramp_epochs": 8.0,
        "output_votes": 16,
        "shift_pixels": 0.0,
        "rotate_degrees": 0.0,
        "scale": 0.0,
        "crop_pixels": 4,
        "flip": True,
    }
    width: ClassVar[int] = WIDTH  # channels of the first convolution
    mean: Tensor
    std: Tensor

    def __init__(self, *, free_scale: bool) -> None:
        super().__init__(free_scale=free_scale)
        self.register_buffer("mean", torch.tensor(CIFAR10_MEAN).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(CIFAR10_STD).reshape(3, 1, 1))
        w = self.width

        def conv(channels_in: int, channels_out: int, site: int) -> NoisyLayer:
            return convolution(channels_in, channels_out, site, free_scale=free_scale)

        self.layers = nn.Sequential(
            conv(3, w, 0),
            conv(w, 2 * w, 1),
            nn.AvgPool2d(2),
            Residual(conv(2 * w, 2 * w, 2), conv(2 * w, 2 * w, 3)),
            conv(2 * w, 4 * w, 4),
            nn.AvgPool2d(2),
            conv(4 * w, 8 * w, 5),
            nn.AvgPool2d(2),
            Residual(conv(8 * w, 8 * w, 6), conv(8 * w, 8 * w, 7)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            NoisyLayer(nn.Linear(8 * w, 10), None, GaussianNoise(8, output=True)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the images, drawing noise from the surrounding `noise_op.torch_twin.drawing`."""
        return self.layers((images - self.mean) / self.std)  # type: ignore[no-any-return]  # untyped __call__
