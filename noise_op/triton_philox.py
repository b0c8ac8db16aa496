"""The operator as two Triton kernels, for graphics processors: what `torch_philox` does in one pass over memory.

Every thread makes the Philox block of its own element. Three quarters of that work is thrown away, but it is
arithmetic that hides behind the memory traffic, and no layout needs another kernel.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from noisevote.noise_op.layout import dense, layout

_BLOCK = 1024


@triton.jit(do_not_specialize=["site", "step"])
def _forward(
    x_ptr, y_ptr, sigma_ptr, seed_ptr, vote_ptr, row_ptr, site, step, total, count, channels,
    fan_out: tl.constexpr, channels_last: tl.constexpr, relu: tl.constexpr, block: tl.constexpr,
):  # fmt: skip  # pointers and numbers, constants
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < total
    row = at // count
    within = (at - row * count).to(tl.int32)  # place in memory inside the row
    element = within
    if channels_last:  # draws are numbered in the order [channel, height, width]
        element = (within % channels) * (count // channels) + within // channels
    source = tl.load(row_ptr + row, inside, 0) if fan_out else row
    x = tl.load(x_ptr + source * count + within, inside, 0.0).to(tl.float32)

    vote = tl.load(vote_ptr + row, inside, 0).to(tl.uint32)
    seed = tl.load(seed_ptr + row, inside, 0)
    zero = tl.zeros_like(vote)
    first, second, third, fourth = tl.philox(seed, (element >> 2).to(tl.uint32), zero + site, vote, zero + step)
    w_radius = tl.where((element & 2) == 0, first, third)
    w_angle = tl.where((element & 2) == 0, second, fourth)
    u = (w_radius.to(tl.float32) + 0.5) * 2.3283064365386963e-10  # 2^-32
    f = (((w_angle >> 6) & 0xFFFFFE) + 1).to(tl.float32) * 5.9604644775390625e-08  # 2^-24
    odd = (element & 1) == 1
    angle = 1.5707963267948966 * tl.where(odd, f, 1.0 - f)
    negative = tl.where(odd, (w_angle >> 30) & 1, w_angle >> 31) == 1
    z = tl.sqrt(-2.0 * libdevice.log(u)) * libdevice.sin(angle)
    z = tl.where(negative, -z, z)

    sigma0 = tl.load(sigma_ptr + 2 * row, inside, 0.0)
    sigma1 = tl.load(sigma_ptr + 2 * row + 1, inside, 0.0)
    y = x + tl.sqrt(sigma0 * x * (sigma0 * x) + sigma1 * sigma1) * z
    if relu:
        y = tl.where(y < 0, 0.0, y)  # keeps what is not a number
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), inside)


@triton.jit
def _backward(
    g_ptr, x_ptr, y_ptr, gx_ptr, sigma_ptr, row_ptr, total, count,
    fan_out: tl.constexpr, relu: tl.constexpr, block: tl.constexpr,
):  # fmt: skip  # as above
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < total
    row = at // count
    source = tl.load(row_ptr + row, inside, 0) if fan_out else row
    x = tl.load(x_ptr + source * count + (at - row * count), inside, 0.0).to(tl.float32)
    y = tl.load(y_ptr + at, inside, 0.0).to(tl.float32)
    g = tl.load(g_ptr + at, inside, 0.0).to(tl.float32)
    sigma0 = tl.load(sigma_ptr + 2 * row, inside, 0.0)
    sigma1 = tl.load(sigma_ptr + 2 * row + 1, inside, 0.0)
    squared = sigma0 * sigma0
    variance = squared * x * x + sigma1 * sigma1
    slope = tl.where(variance > 0, 1.0 + squared * x * (y - x) / tl.where(variance > 0, variance, 1.0), 1.0)
    if relu:
        slope = tl.where(y > 0, slope, 0.0)
    tl.store(gx_ptr + at, (g * slope).to(gx_ptr.dtype.element_ty), inside)


def gaussian_noise(
    x: Tensor, sigma: Tensor, seed: Tensor, vote: Tensor, row: Tensor | None, step: int, site: int, relu: bool
) -> Tensor:
    """The operator of contract.py on x [N, ...], [R, ...] out; the memory layout of x is kept.

    `row` must lie within x and `vote` within 32 bits: to look would wait for the device.
    """
    x = dense(x)
    memory = layout(x)
    y = torch.empty((len(sigma), *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=memory)
    if y.numel() == 0:
        return y
    count = x[0].numel()
    _forward[_grid(y)](
        x, y, sigma.float().contiguous(), seed.contiguous(), vote.contiguous(), row, _signed(site), _signed(step),
        y.numel(), count, x.shape[1] if memory is torch.channels_last else 1,
        fan_out=row is not None, channels_last=memory is torch.channels_last, relu=relu, block=_BLOCK,
    )  # fmt: skip  # tensors, numbers, constants
    return y


def gradient(g: Tensor, x: Tensor, y: Tensor, sigma: Tensor, row: Tensor | None, relu: bool) -> Tensor:
    """g·dy/dx summed over the rows that read each input; see native/apply.h for the formula."""
    x = dense(x)
    memory = layout(x)
    y = y.contiguous(memory_format=memory)
    g = g.to(x.dtype).contiguous(memory_format=memory)
    gx = torch.empty_like(y, memory_format=memory)
    if y.numel() > 0:
        _backward[_grid(y)](
            g, x, y, gx, sigma.float().contiguous(), row, y.numel(), x[0].numel(),
            fan_out=row is not None, relu=relu, block=_BLOCK,
        )  # fmt: skip  # as above
    if row is None:
        return gx
    return torch.zeros_like(x, memory_format=memory).index_add_(0, row, gx)


def _grid(y: Tensor) -> tuple[int]:
    return (triton.cdiv(y.numel(), _BLOCK),)


def _signed(word: int) -> int:
    """The same 32 bits as Triton passes them."""
    return word - 2**32 if word >= 2**31 else word
