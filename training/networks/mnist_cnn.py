"""The paper's CNN for MNIST."""

from typing import Final

import torch
from torch import Tensor, nn

from noise_op.contract import Activation
from noise_op.torch_twin import GaussianNoise
from training.networks.layers import NoisyLayer
from training.networks.network import Network

MNIST_MEAN: Final = 0.1307
MNIST_STD: Final = 0.3081


class MnistCnn(Network):
    """The 6-layer CNN of the paper's Table 1: [N, 1, 28, 28] in [0, 1] to logits [N, 10].

    [conv 3×3 – batch norm – noise – ReLU]×2, maxpool, the same ×2, maxpool, fully connected – batch norm –
    noise – ReLU, fully connected – noise. The paper's output shapes did not survive: 28×28×32, 14×14×64 and
    a hidden layer of 256 are our choice. As in Table 1 the last product has no batch norm; under additive
    noise its weights are therefore free to grow, and the other layers carry what the noise costs.
    """

    title = "MNIST digits, 6-layer CNN"
    description = "Handwritten digits; four convolutions and two fully connected layers, noise after each product."
    preprocessing = "Inside the graph: minus 0.1307, divided by 0.3081 (mean and standard deviation of MNIST)."
    input_shape = (1, 28, 28)
    data_set = "mnist"
    mean: Tensor
    std: Tensor

    def __init__(self, *, free_scale: bool) -> None:
        super().__init__(free_scale=free_scale)
        self.register_buffer("mean", torch.tensor(MNIST_MEAN))
        self.register_buffer("std", torch.tensor(MNIST_STD))
        self.layers = nn.Sequential(
            _conv(1, 32, 0, free_scale),
            _conv(32, 32, 1, free_scale),
            nn.MaxPool2d(2),
            _conv(32, 64, 2, free_scale),
            _conv(64, 64, 3, free_scale),
            nn.MaxPool2d(2),
            nn.Flatten(),
            _linear(64 * 7 * 7, 256, 4, free_scale),
            NoisyLayer(nn.Linear(256, 10), None, GaussianNoise(5)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the images, drawing noise from the surrounding `noise_op.torch_twin.drawing`."""
        return self.layers((images - self.mean) / self.std)  # type: ignore[no-any-return]  # untyped __call__


def _conv(channels_in: int, channels_out: int, site: int, free_scale: bool) -> NoisyLayer:
    # The batch norm subtracts the mean, so a bias before it would do nothing.
    product = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return NoisyLayer(product, nn.BatchNorm2d(channels_out, affine=free_scale), _site(site))


def _linear(features_in: int, features_out: int, site: int, free_scale: bool) -> NoisyLayer:
    product = nn.Linear(features_in, features_out, bias=False)
    return NoisyLayer(product, nn.BatchNorm1d(features_out, affine=free_scale), _site(site))


def _site(site: int, activation: Activation = "relu") -> GaussianNoise:
    # Votes fan out at the first noise: what is before it is the same in every vote of an input.
    return GaussianNoise(site, activation=activation, fan_out=site == 0)
