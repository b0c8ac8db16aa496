"""The 4-layer CNN for MNIST of Madry et al. 2018, as their public code has it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from noisevote.noise_op.torch_twin import GaussianNoise
from noisevote.training.networks.layers import NoisyLayer
from noisevote.training.networks.network import Network


class MnistMadry(Network):
    """Two convolutions 5×5 of 32 and 64 channels, each with a maxpool, then 1024 and 10: [N, 1, 28, 28] to [N, 10].

    No normalisation, neither of the input nor between layers, as there; noise after each product, as everywhere here.
    """

    title = "MNIST digits, Madry's 4-layer CNN"
    description = "Handwritten digits; two convolutions and two fully connected layers, noise after each product."
    preprocessing = "None."
    input_shape = (1, 28, 28)
    data_set = "mnist"
    recipe_defaults: ClassVar[Mapping[str, Any]] = {"lr": 1e-3}

    def __init__(self, *, free_scale: bool) -> None:
        super().__init__(free_scale=free_scale)
        self.layers = nn.Sequential(
            NoisyLayer(nn.Conv2d(1, 32, 5, padding=2), None, GaussianNoise(0, activation="relu", fan_out=True)),
            nn.MaxPool2d(2),
            NoisyLayer(nn.Conv2d(32, 64, 5, padding=2), None, GaussianNoise(1, activation="relu")),
            nn.MaxPool2d(2),
            nn.Flatten(),
            NoisyLayer(nn.Linear(64 * 7 * 7, 1024), None, GaussianNoise(2, activation="relu")),
            NoisyLayer(nn.Linear(1024, 10), None, GaussianNoise(3, output=True)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the images, drawing noise from the surrounding `noise_op.torch_twin.drawing`."""
        return self.layers(images)  # type: ignore[no-any-return]  # untyped __call__
