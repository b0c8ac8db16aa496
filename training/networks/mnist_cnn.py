"""The paper's CNN for MNIST."""

from typing import Final

import torch
from torch import Tensor, nn

from noisevote.noise_op.torch_twin import GaussianNoise
from noisevote.training.networks.layers import NoisyLayer, convolution, fully_connected
from noisevote.training.networks.network import Network

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
            convolution(1, 32, 0, free_scale=free_scale),
            convolution(32, 32, 1, free_scale=free_scale),
            nn.MaxPool2d(2),
            convolution(32, 64, 2, free_scale=free_scale),
            convolution(64, 64, 3, free_scale=free_scale),
            nn.MaxPool2d(2),
            nn.Flatten(),
            fully_connected(64 * 7 * 7, 256, 4, free_scale=free_scale),
            NoisyLayer(nn.Linear(256, 10), None, GaussianNoise(5, output=True)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the images, drawing noise from the surrounding `noise_op.torch_twin.drawing`."""
        return self.layers((images - self.mean) / self.std)  # type: ignore[no-any-return]  # untyped __call__
