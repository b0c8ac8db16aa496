"""Networks with one noise operator after every matrix-vector product, and what one vote of each costs."""

import copy
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from noise_op.contract import Activation, NoiseKind
from noise_op.torch_twin import Draws, GaussianNoise, drawing
from training.errors import TrainingError

MNIST_MEAN: Final = 0.1307
MNIST_STD: Final = 0.3081


class UnknownNetworkError(TrainingError):
    """No builder has that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"network {name!r}: unknown; known are {', '.join(NETWORKS)}")


class NoisyLayer(nn.Module):
    """One analog layer: product – batch norm – noise (activation fused into the noise site).

    The noise stands after the batch norm, as in the paper's Table 1, so `folded` is exact.
    """

    def __init__(self, product: nn.Conv2d | nn.Linear, norm: nn.BatchNorm1d | nn.BatchNorm2d | None, noise: nn.Module):
        super().__init__()
        self.product = product
        self.norm = norm
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        """Noisy activation of `x`; the batch sizes differ where the site fans votes out."""
        signal = self.product(x)
        if self.norm is not None:
            signal = self.norm(signal)
        return self.noise(signal)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped

    def folded(self) -> "NoisyLayer":
        """The same layer in evaluation mode, its batch norm multiplied into the product (and added to the bias)."""
        if self.norm is None:
            return self
        norm = copy.deepcopy(self.norm)
        if not norm.affine:  # torch folds linear layers only with a scale and shift
            norm.weight = nn.Parameter(torch.ones(norm.num_features))
            norm.bias = nn.Parameter(torch.zeros(norm.num_features))
        if isinstance(self.product, nn.Conv2d):
            return NoisyLayer(fuse_conv_bn_eval(self.product, norm), None, self.noise)
        return NoisyLayer(fuse_linear_bn_eval(self.product, norm), None, self.noise)


class MnistCnn(nn.Module):
    """The 6-layer CNN of the paper's Table 1: [N, 1, 28, 28] in [0, 1] to logits [N, 10].

    [conv 3×3 – batch norm – noise – ReLU]×2, maxpool, the same ×2, maxpool, fully connected – batch norm –
    noise – ReLU, fully connected – noise. The paper's output shapes did not survive: 28×28×32, 14×14×64 and
    a hidden layer of 256 are our choice. As in Table 1 the last product has no batch norm; under additive
    noise its weights are therefore free to grow, and the other layers carry what the noise costs.

    `free_scale` gives the batch norms before the noise a learned scale and shift. Additive noise needs
    them fixed (1 and 0, as in the paper), or the network would raise its signal above the noise.
    Normalisation is inside the network, hence inside the exported graph.
    """

    title = "MNIST digits, 6-layer CNN"
    description = "Handwritten digits; four convolutions and two fully connected layers, noise after each product."
    preprocessing = "Inside the graph: minus 0.1307, divided by 0.3081 (mean and standard deviation of MNIST)."
    input_shape = (1, 28, 28)
    data_set = "mnist"
    mean: Tensor
    std: Tensor

    def __init__(self, *, free_scale: bool) -> None:
        super().__init__()
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


NETWORKS: Final[dict[str, type[MnistCnn]]] = {"mnist-cnn": MnistCnn}


def named(name: str) -> type[MnistCnn]:
    """The network's class, which says what it takes (`input_shape`, `data_set`, …).

    Raises:
        UnknownNetworkError: no such network.
    """
    if name not in NETWORKS:
        raise UnknownNetworkError(name)
    return NETWORKS[name]


def build(name: str, kind: NoiseKind) -> MnistCnn:
    """A network for training under one noise kind; weights from torch's global random state."""
    return named(name)(free_scale=kind == "multiplicative")


def fold(network: MnistCnn) -> MnistCnn:
    """A copy in evaluation mode with every batch norm folded into its product."""
    folded = copy.deepcopy(network).eval()
    for index, layer in enumerate(folded.layers):
        if isinstance(layer, NoisyLayer):
            folded.layers[index] = layer.folded()
    return folded


@dataclass(frozen=True)
class Counts:
    """What a network is made of, and what one vote costs.

    `parameters` counts weights and biases of the folded products (what is published),
    `macs` multiply-accumulates, `samples` noise samples, `noisy_layers` the paper's L.
    """

    parameters: int
    macs: int
    samples: int
    noisy_layers: int


def count(network: MnistCnn) -> Counts:
    """Count by one noiseless forward pass of a zero input."""
    folded = fold(network)
    macs: list[int] = []
    samples: list[int] = []

    def record(layer: nn.Module, _: tuple[Tensor, ...], signal: Tensor) -> None:
        assert isinstance(layer, NoisyLayer)
        weights = layer.product.weight[0].numel()  # products that make one output element
        samples.append(signal[0].numel())
        macs.append(signal[0].numel() * weights)

    layers = [layer for layer in folded.layers if isinstance(layer, NoisyLayer)]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    zero = torch.zeros(1, dtype=torch.int64)
    with torch.no_grad(), drawing(Draws(sigma=torch.zeros(1, 2), seed=zero, vote=zero)):
        folded(torch.zeros(1, *network.input_shape))
    for hook in hooks:
        hook.remove()
    parameters = sum(weights.numel() for weights in folded.parameters())
    return Counts(parameters, sum(macs), sum(samples), len(layers))
