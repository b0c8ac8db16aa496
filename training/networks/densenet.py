"""DenseNet for CIFAR-10 (Huang et al. 2017, "Densely Connected Convolutional Networks", without bottlenecks)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from noisevote.noise_op.torch_twin import GaussianNoise
from noisevote.training.networks.channels import Channels, channels_of
from noisevote.training.networks.cifar_cnn import CIFAR10_MEAN, CIFAR10_STD
from noisevote.training.networks.dense_block import DenseBlock, keep_statistics
from noisevote.training.networks.layers import NoisyLayer
from noisevote.training.networks.network import Network

BLOCKS: Final = 3
FIRST_CHANNELS: Final = 16
GROWTH: Final = 12


class _Activated(nn.Module):
    """Batch norm – ReLU – product – noise. The first two are digital: the ReLU keeps the norm out of the product."""

    def __init__(self, norm: nn.BatchNorm2d, layer: NoisyLayer) -> None:
        super().__init__()
        self.norm = norm
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(relu(self.norm(x)))  # type: ignore[no-any-return]  # untyped __call__


class _Dense(_Activated):
    """Adds its answer to its input as further channels."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, super().forward(x)), dim=1)


class CifarDenseNet(Network):
    """DenseNet of `depth` products, growth 12: [N, 3, 32, 32] in [0, 1] to logits [N, 10].

    A convolution to 16 channels; three dense blocks of (depth − 4)/3 convolutions 3×3, each of which sees the
    outputs of all before it in the block; between the blocks a transition, convolution 1×1 and mean over 2×2; then
    the mean over all positions and a fully connected layer. Noise stands right after each of the `depth`
    products, as in the paper, hence before the batch norm of the layers that read it. Nothing holds a signal
    against additive noise there, so only multiplicative noise is meant.
    """

    depth: ClassVar[int]
    # Train through `dense_block`, where something computes it; else module after module, which takes longer.
    shared_norms: bool | None = True
    input_shape = (3, 32, 32)
    data_set = "cifar10"
    preprocessing = "Inside the graph: per colour minus the mean, divided by the standard deviation of CIFAR-10."
    # The paper's: momentum SGD, no augmentation. Its 300 epochs are not repeated.
    recipe_defaults: ClassVar[Mapping[str, Any]] = {
        "epochs": 40,
        "batch": 64,
        "optimizer": "sgd",
        "lr": 0.1,
        "weight_decay": 5e-4,
        "shift_pixels": 0.0,
        "rotate_degrees": 0.0,
        "scale": 0.0,
    }
    mean: Tensor
    std: Tensor

    def __init__(self, *, free_scale: bool) -> None:
        super().__init__(free_scale=free_scale)
        self.register_buffer("mean", torch.tensor(CIFAR10_MEAN).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(CIFAR10_STD).reshape(3, 1, 1))
        channels = FIRST_CHANNELS
        layers: list[nn.Module] = [_convolution(3, channels, 3, 0)]
        for block in range(BLOCKS):
            for _ in range((self.depth - BLOCKS - 1) // BLOCKS):
                layers.append(_Dense(self._norm(channels), _convolution(channels, GROWTH, 3, self._site(layers))))
                channels += GROWTH
            if block < BLOCKS - 1:
                layers.append(_Activated(self._norm(channels), _convolution(channels, channels, 1, self._site(layers))))
                layers.append(nn.AvgPool2d(2))
        last = NoisyLayer(nn.Linear(channels, 10), None, GaussianNoise(self._site(layers), output=True))
        self.layers = nn.Sequential(
            *layers, self._norm(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the images, drawing noise from the surrounding `noise_op.torch_twin.drawing`."""
        x = (images - self.mean) / self.std
        kernels = channels_of(x.device) if self.training and self.shared_norms else None
        return self.layers(x) if kernels is None else self._with_shared_norms(x, kernels)

    def _with_shared_norms(self, x: Tensor, kernels: Channels) -> Tensor:
        """What `layers` makes of x in training, each dense block by `dense_block`."""
        layers = iter(self.layers)
        for layer in layers:
            if not isinstance(layer, _Dense):
                x = layer(x)
                continue
            dense, reader = [layer], next(layers)
            while isinstance(reader, _Dense):
                dense.append(reader)
                reader = next(layers)
            norm = reader.norm if isinstance(reader, _Activated) else reader
            assert isinstance(norm, nn.BatchNorm2d)
            block = DenseBlock(x, norm.num_features, norm.eps, kernels)
            order = block.add(x)
            for each in dense:
                order = block.add(each.layer(block.read(each.norm, order)), order)
            x = block.read(norm, order)
            keep_statistics(block, [*(each.norm for each in dense), norm])
            if isinstance(reader, _Activated):
                x = reader.layer(x)
            else:
                next(layers)  # the ReLU, which `read` has in it
        return x

    def _norm(self, channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, affine=self.free_scale)

    @staticmethod
    def _site(before: list[nn.Module]) -> int:
        """The next site is numbered after those of the layers before it; a pool has none."""
        return sum(not isinstance(layer, nn.AvgPool2d) for layer in before)


class CifarDenseNet40(CifarDenseNet):
    """The paper's network: 1.0 million parameters."""

    depth = 40
    title = "CIFAR-10, DenseNet-40"
    description = "Photographs of ten kinds of things; DenseNet of depth 40 and growth 12, noise after each product."


class CifarDenseNet100(CifarDenseNet):
    """The network of the paper at depth 100: 7.0 million parameters."""

    depth = 100
    title = "CIFAR-10, DenseNet-100"
    description = "Photographs of ten kinds of things; DenseNet of depth 100 and growth 12, noise after each product."


def _convolution(channels_in: int, channels_out: int, width: int, site: int) -> NoisyLayer:
    product = nn.Conv2d(channels_in, channels_out, width, padding=width // 2, bias=False)
    return NoisyLayer(product, None, GaussianNoise(site, fan_out=site == 0))
