"""One pass through a dense block while it is trained: its signals lie in one buffer, and each is normalised once.

Each layer of a dense block reads all channels before it through a batch norm of its own. In a batch, the mean and
deviation of a channel are the same for every layer that reads it: they are taken once, where the channel is added, and
of the norms only scale and shift, with the ReLU, are left to the layers. Nothing is concatenated. Backwards, what comes
through the scales adds up in one buffer too, and goes through mean and deviation once. Step by step, with Ioffe and
Szegedy (2015), "Batch Normalization", x̂ = (x − mean)/deviation:

- forward, layer l: a_l = relu(scale_l · x̂ + shift_l),
- backward, layer l: dz_l = da_l where a_l > 0; of its scale Σ dz_l · x̂, of its shift Σ dz_l; dx̂ += scale_l · dz_l,
- backward, once a channel: dx = (dx̂ − mean(dx̂) − x̂ · mean(dx̂ · x̂))/deviation. Both means are those of the
  layers' sums, scale_l · Σ dz_l and scale_l · Σ dz_l · x̂, so that no pass is needed for them.

`CifarDenseNet.layers`, module after module, is the plain way; both compute the same but for rounding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from noisevote.training.networks.channels import Channels


class DenseBlock:
    """The signals of one pass, and, on the way back, their gradient.

    A layer's pass of gradients waits for those of all that read what it added. Torch knows it by `Tensor`s without
    elements, here called order: each addition takes the order before it and makes the next one, which readers take.
    """

    def __init__(self, x: Tensor, channels: int, epsilon: float, kernels: Channels) -> None:
        images, _, height, width = x.shape
        self.kernels = kernels
        self.epsilon = epsilon
        self.images = (images, height, width)
        self.rows = images * height * width
        self.filled = 0
        self.signals = x.new_empty(self.rows, channels)
        self.gradient: Tensor | None = None
        self.mean, self.variance, self.gain, self.offset_back, self.slope_back = torch.zeros(
            5, channels, dtype=torch.float64, device=x.device
        )  # of each channel: mean, variance, 1/deviation; mean(dx̂) and mean(dx̂ · x̂), as far as layers have told

    def add(self, x: Tensor, order: Tensor | None = None) -> Tensor:
        """Take in x, [images, channels, height, width], as the next channels; returns the order after it."""
        made: Tensor = _Add.apply(x, x.new_empty(0) if order is None else order, self)  # type: ignore[no-untyped-call]  # untyped in torch
        return made

    def read(self, norm: nn.BatchNorm2d, order: Tensor) -> Tensor:
        """Return relu(norm(all channels so far)), [images, channels, height, width], channels-last."""
        made: Tensor = _Read.apply(norm.weight, norm.bias, order, self)  # type: ignore[no-untyped-call]  # as above
        return made

    def rows_of(self, x: Tensor) -> Tensor:
        """Return [images, channels, height, width] as [rows, channels]."""
        return x.permute(0, 2, 3, 1).reshape(self.rows, x.shape[1]).to(self.signals.dtype)

    def images_of(self, rows: Tensor) -> Tensor:
        """Return [rows, channels] as [images, channels, height, width], channels-last."""
        images, height, width = self.images
        return rows.view(images, height, width, rows.shape[1]).permute(0, 3, 1, 2)


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, block: DenseBlock) -> Tensor:
        begin = block.filled
        block.filled = end = begin + x.shape[1]
        sums = block.kernels.place(block.rows_of(x), block.signals[:, begin:end]) / block.rows
        block.mean[begin:end] = sums[0]
        block.variance[begin:end] = (sums[1] - sums[0] * sums[0]).clamp(min=0)  # rounding can fall below
        block.gain[begin:end] = torch.rsqrt(block.variance[begin:end] + block.epsilon)
        ctx.block, ctx.own = block, slice(begin, end)
        return order.new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, Tensor, None]:
        block, own = ctx.block, ctx.own
        if block.gradient is None:  # nobody read it
            block.gradient = torch.zeros_like(block.signals)
        gain = block.gain[own]
        slope = gain * gain * block.slope_back[own]
        offset = gain * block.offset_back[own] - slope * block.mean[own]
        factors = [factor.float() for factor in (gain, slope, offset)]
        gradient = block.kernels.through(block.gradient[:, own], block.signals[:, own], *factors)
        return block.images_of(gradient), gradient.new_empty(0), None


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor | None, bias: Tensor | None, order: Tensor, block: DenseBlock) -> Tensor:
        read = slice(0, block.filled)
        gain = block.gain[read]
        scale = gain if weight is None else gain * weight
        shift = -block.mean[read] * scale
        if bias is not None:
            shift = shift + bias
        ctx.scale, ctx.shift = scale.float(), shift.float()
        ctx.weight = torch.ones_like(ctx.scale) if weight is None else weight.detach().float()
        ctx.block, ctx.read, ctx.affine, ctx.order = block, read, weight is not None, order.new_empty(0)
        return block.images_of(block.kernels.activate(block.signals[:, read], ctx.scale, ctx.shift))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor, None]:
        block, read = ctx.block, ctx.read
        first = block.gradient is None
        if first:
            whole = ctx.read.stop == block.signals.shape[1]  # then nothing of it is left as it was
            block.gradient = (torch.empty_like if whole else torch.zeros_like)(block.signals)
            first = whole
        through = block.rows_of(g), block.signals[:, read], ctx.scale, ctx.shift, ctx.weight
        sums = block.kernels.collect(*through, block.gradient[:, read], first)
        of_scale = (sums[1] - block.mean[read] * sums[0]) * block.gain[read]
        block.offset_back[read] += ctx.weight * sums[0] / block.rows
        block.slope_back[read] += ctx.weight * of_scale / block.rows
        if not ctx.affine:
            return None, None, ctx.order, None
        return of_scale.to(ctx.weight.dtype), sums[0].to(ctx.weight.dtype), ctx.order, None


@torch.no_grad()
def keep_statistics(block: DenseBlock, norms: Sequence[nn.BatchNorm2d]) -> None:
    """Let the norms that read a block in training take in the batch's mean and variance, as they do by themselves."""
    mean, variance = block.mean.float(), (block.variance * block.rows / max(1, block.rows - 1)).float()
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean[: norm.num_features], share)
        norm.running_var.lerp_(variance[: norm.num_features], share)
