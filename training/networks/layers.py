"""The noisy layer that networks are made of, folding its batch norm away, and what one vote costs."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from noisevote.noise_op.torch_twin import Draws, GaussianNoise, drawing
from noisevote.training.networks.network import Network


class NoisyLayer(nn.Module):
    """One analog layer: product – batch norm – noise (activation fused into the noise site).

    The noise stands after the batch norm, as in the paper's Table 1, so `folded` is exact.
    """

    def __init__(
        self, product: nn.Conv2d | nn.Linear, norm: nn.BatchNorm1d | nn.BatchNorm2d | None, noise: GaussianNoise
    ):
        super().__init__()
        self.product = product
        self.norm = norm
        self.noise = noise

    def forward(self, x: Tensor, step: Tensor | None = None) -> Tensor:
        """Noisy activation of `x`; the batch sizes differ where the site fans votes out.

        Args:
            x: what the product takes.
            step: int64 [], time step of a recurrent network, which numbers the draws.
        """
        signal = self.product(x)
        if self.norm is not None:
            signal = self.norm(signal)
        return self.noise(signal, step)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped

    def folded(self) -> "NoisyLayer":
        """Return the layer in evaluation mode, its batch norm multiplied into the product (and added to the bias)."""
        if self.norm is None:
            return self
        norm = copy.deepcopy(self.norm)
        if not norm.affine:  # torch folds linear layers only with a scale and shift
            norm.weight = nn.Parameter(torch.ones(norm.num_features))
            norm.bias = nn.Parameter(torch.zeros(norm.num_features))
        if isinstance(self.product, nn.Conv2d):
            return NoisyLayer(fuse_conv_bn_eval(self.product, norm), None, self.noise)
        return NoisyLayer(fuse_linear_bn_eval(self.product, norm), None, self.noise)


def convolution(channels_in: int, channels_out: int, site: int, *, free_scale: bool) -> NoisyLayer:
    """Convolution 3×3 that keeps height and width – batch norm – noise – ReLU."""
    # The batch norm subtracts the mean, so a bias before it would do nothing.
    product = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return NoisyLayer(product, nn.BatchNorm2d(channels_out, affine=free_scale), _noise_and_relu(site))


def fully_connected(features_in: int, features_out: int, site: int, *, free_scale: bool) -> NoisyLayer:
    """Matrix-vector product – batch norm – noise – ReLU."""
    product = nn.Linear(features_in, features_out, bias=False)
    return NoisyLayer(product, nn.BatchNorm1d(features_out, affine=free_scale), _noise_and_relu(site))


def _noise_and_relu(site: int) -> GaussianNoise:
    # Votes fan out at the first noise: what is before it is the same in every vote of an input.
    return GaussianNoise(site, activation="relu", fan_out=site == 0)


def fold(network: Network) -> Network:
    """A copy in evaluation mode with the batch norm of every noisy layer folded into its product."""
    folded = copy.deepcopy(network).eval()
    for parent in list(folded.modules()):
        for name, child in parent.named_children():
            if isinstance(child, NoisyLayer):
                setattr(parent, name, child.folded())
    return folded


@dataclass(frozen=True)
class Counts:
    """Counts what a network is made of, and what one vote costs.

    `parameters` counts weights and biases of the folded products (what is published),
    `macs` multiply-accumulates, `samples` noise samples, `noisy_layers` the paper's L, the sites that draw.
    A layer that a vote computes several times, as in a recurrent network, counts each time.
    """

    parameters: int
    macs: int
    samples: int
    noisy_layers: int


def count(network: Network) -> Counts:
    """Count by one noiseless forward pass of a zero input; products without noise count as well."""
    folded = fold(network)
    macs: list[int] = []
    samples: list[int] = []

    def record(module: nn.Module, _: tuple[Tensor, ...], signal: Tensor) -> None:
        if isinstance(module, GaussianNoise):
            samples.append(signal[0].numel())
        elif isinstance(module, nn.Conv2d | nn.Linear):
            macs.append(signal[0].numel() * module.weight[0].numel())  # products that make one output element

    hooks = [module.register_forward_hook(record) for module in folded.modules()]
    zero = torch.zeros(1, dtype=torch.int64)
    with torch.no_grad(), drawing(Draws(sigma=torch.zeros(1, 2), seed=zero, vote=zero)):
        folded(torch.zeros(1, *network.input_shape))
    for hook in hooks:
        hook.remove()
    parameters = sum(weights.numel() for weights in folded.parameters())
    return Counts(parameters, sum(macs), sum(samples), len(samples))
