"""Networks that are smaller than those of the registry, and made of the same layers."""

from torch import nn

from noisevote.noise_op.torch_twin import GaussianNoise
from noisevote.training.networks.cifar_cnn import CifarCnn
from noisevote.training.networks.densenet import CifarDenseNet
from noisevote.training.networks.layers import NoisyLayer, convolution, fully_connected
from noisevote.training.networks.mnist_cnn import MnistCnn


class NarrowCnn(MnistCnn):
    """The CNN for MNIST with an eighth of its channels: for what training does whatever it trains."""

    title = description = "for a test"

    def __init__(self, *, free_scale: bool) -> None:
        super().__init__(free_scale=free_scale)
        self.layers = nn.Sequential(
            convolution(1, 4, 0, free_scale=free_scale),
            convolution(4, 4, 1, free_scale=free_scale),
            nn.MaxPool2d(2),
            convolution(4, 8, 2, free_scale=free_scale),
            convolution(8, 8, 3, free_scale=free_scale),
            nn.MaxPool2d(2),
            nn.Flatten(),
            fully_connected(8 * 7 * 7, 32, 4, free_scale=free_scale),
            NoisyLayer(nn.Linear(32, 10), None, GaussianNoise(5, output=True)),
        )


class NarrowCifarCnn(CifarCnn):
    """The CNN for CIFAR-10 with a quarter of its channels: as many layers and sites, a tenth of the products."""

    title = description = "for a test"
    width = 8


class ShallowDenseNet(CifarDenseNet):
    """A DenseNet like those of the registry, two products a block: the second reads the first's beside its input."""

    depth = 10
    title = description = "for a test"


class ShallowestDenseNet(CifarDenseNet):
    """A product a block."""

    depth = 7
    title = description = "three blocks of one"
