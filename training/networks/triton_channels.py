"""`Channels` on a graphics card: four Triton kernels, each of which reads and writes every signal once.

A program computes a tile of rows by channels; where sums are wanted, the tiles of a range of rows one after another,
so that the same sums are added in the same order each time.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS = 64
_CHANNELS = 32
_RANGES = 512  # of rows, at most, each of which makes sums of its own


# Every value that a kernel is specialised on is a compilation more, of which a loan of a card pays for each.
@triton.jit(do_not_specialize=["rows", "tiles"])
def _place(
    x_ptr, into_ptr, sums_ptr, rows, stride, channels, tiles,
    row_block: tl.constexpr, channel_block: tl.constexpr,
):  # fmt: skip  # pointers and numbers, constants
    channel = tl.program_id(1) * channel_block + tl.arange(0, channel_block)
    total = tl.zeros((channel_block,), tl.float32)
    squares = tl.zeros((channel_block,), tl.float32)
    for tile in range(tiles):
        row = (tl.program_id(0) * tiles + tile) * row_block + tl.arange(0, row_block).to(tl.int64)
        inside = (row < rows)[:, None] & (channel < channels)[None, :]
        x = tl.load(x_ptr + row[:, None] * channels + channel[None, :], inside, 0.0)
        tl.store(into_ptr + row[:, None] * stride + channel[None, :], x, inside)
        v = x.to(tl.float32)
        total += tl.sum(v, 0)
        squares += tl.sum(v * v, 0)
    at = sums_ptr + tl.program_id(0) * 2 * channels + channel
    tl.store(at, total, channel < channels)
    tl.store(at + channels, squares, channel < channels)


@triton.jit(do_not_specialize=["rows"])
def _activate(
    x_ptr, scale_ptr, shift_ptr, y_ptr, rows, stride, channels,
    row_block: tl.constexpr, channel_block: tl.constexpr,
):  # fmt: skip  # as above
    channel = tl.program_id(1) * channel_block + tl.arange(0, channel_block)
    row = tl.program_id(0) * row_block + tl.arange(0, row_block).to(tl.int64)
    inside = (row < rows)[:, None] & (channel < channels)[None, :]
    scale = tl.load(scale_ptr + channel, channel < channels, 0.0)[None, :]
    shift = tl.load(shift_ptr + channel, channel < channels, 0.0)[None, :]
    z = tl.load(x_ptr + row[:, None] * stride + channel[None, :], inside, 0.0).to(tl.float32) * scale + shift
    y = tl.where(z <= 0, 0.0, z)  # keeps what is not a number
    tl.store(y_ptr + row[:, None] * channels + channel[None, :], y.to(y_ptr.dtype.element_ty), inside)


@triton.jit(do_not_specialize=["rows", "tiles"])
def _collect(
    g_ptr, x_ptr, scale_ptr, shift_ptr, weight_ptr, into_ptr, sums_ptr, rows, stride, channels, tiles,
    first: tl.constexpr, row_block: tl.constexpr, channel_block: tl.constexpr,
):  # fmt: skip  # as above
    channel = tl.program_id(1) * channel_block + tl.arange(0, channel_block)
    known = channel < channels
    scale = tl.load(scale_ptr + channel, known, 0.0)[None, :]
    shift = tl.load(shift_ptr + channel, known, 0.0)[None, :]
    weight = tl.load(weight_ptr + channel, known, 0.0)[None, :]
    total = tl.zeros((channel_block,), tl.float32)
    products = tl.zeros((channel_block,), tl.float32)
    for tile in range(tiles):
        row = (tl.program_id(0) * tiles + tile) * row_block + tl.arange(0, row_block).to(tl.int64)
        inside = (row < rows)[:, None] & known[None, :]
        x = tl.load(x_ptr + row[:, None] * stride + channel[None, :], inside, 0.0).to(tl.float32)
        g = tl.load(g_ptr + row[:, None] * channels + channel[None, :], inside, 0.0).to(tl.float32)
        dz = tl.where(x * scale + shift <= 0, 0.0, g)
        total += tl.sum(dz, 0)
        products += tl.sum(dz * x, 0)
        at = into_ptr + row[:, None] * stride + channel[None, :]
        made = dz * weight
        if not first:
            made += tl.load(at, inside, 0.0).to(tl.float32)
        tl.store(at, made.to(into_ptr.dtype.element_ty), inside)
    at_sums = sums_ptr + tl.program_id(0) * 2 * channels + channel
    tl.store(at_sums, total, known)
    tl.store(at_sums + channels, products, known)


@triton.jit(do_not_specialize=["rows"])
def _through(
    g_ptr, x_ptr, gain_ptr, slope_ptr, offset_ptr, y_ptr, rows, g_stride, x_stride, channels,
    row_block: tl.constexpr, channel_block: tl.constexpr,
):  # fmt: skip  # as above
    channel = tl.program_id(1) * channel_block + tl.arange(0, channel_block)
    known = channel < channels
    row = tl.program_id(0) * row_block + tl.arange(0, row_block).to(tl.int64)
    inside = (row < rows)[:, None] & known[None, :]
    gain = tl.load(gain_ptr + channel, known, 0.0)[None, :]
    slope = tl.load(slope_ptr + channel, known, 0.0)[None, :]
    offset = tl.load(offset_ptr + channel, known, 0.0)[None, :]
    g = tl.load(g_ptr + row[:, None] * g_stride + channel[None, :], inside, 0.0).to(tl.float32)
    x = tl.load(x_ptr + row[:, None] * x_stride + channel[None, :], inside, 0.0).to(tl.float32)
    y = gain * g - slope * x - offset
    tl.store(y_ptr + row[:, None] * channels + channel[None, :], y.to(y_ptr.dtype.element_ty), inside)


class TritonChannels:
    """See the protocol `Channels`."""

    def place(self, x: Tensor, into: Tensor) -> Tensor:
        """As `Channels.place`."""
        ranges, tiles, sums = _ranges(into)
        _place[ranges, _blocks(into)](
            x, into, sums, len(x), into.stride(0), x.shape[1], tiles, row_block=_ROWS, channel_block=_CHANNELS
        )
        return sums.sum(dim=0, dtype=torch.float64)

    def activate(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """As `Channels.activate`."""
        y = x.new_empty(x.shape)
        _activate[triton.cdiv(len(x), _ROWS), _blocks(x)](
            x, scale, shift, y, len(x), x.stride(0), x.shape[1], row_block=_ROWS, channel_block=_CHANNELS
        )
        return y

    def collect(
        self, g: Tensor, x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, into: Tensor, first: bool
    ) -> Tensor:
        """As `Channels.collect`."""
        ranges, tiles, sums = _ranges(x)
        _collect[ranges, _blocks(x)](
            g, x, scale, shift, weight, into, sums, len(x), x.stride(0), x.shape[1], tiles,
            first=first, row_block=_ROWS, channel_block=_CHANNELS,
        )  # fmt: skip  # tensors and numbers, constants
        return sums.sum(dim=0, dtype=torch.float64)

    def through(self, g: Tensor, x: Tensor, gain: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
        """As `Channels.through`."""
        y = x.new_empty(x.shape)
        _through[triton.cdiv(len(x), _ROWS), _blocks(x)](
            g, x, gain, slope, offset, y, len(x), g.stride(0), x.stride(0), x.shape[1],
            row_block=_ROWS, channel_block=_CHANNELS,
        )  # fmt: skip  # as above
        return y


def load() -> TritonChannels:
    """The kernels, which Triton compiles when they are first called."""
    return TritonChannels()


def _blocks(x: Tensor) -> int:
    return int(triton.cdiv(x.shape[1], _CHANNELS))


def _ranges(x: Tensor) -> tuple[int, int, Tensor]:
    """How many ranges of rows, of how many tiles each, and room for their sums."""
    tiles = triton.cdiv(triton.cdiv(len(x), _ROWS), _RANGES)
    ranges = triton.cdiv(len(x), tiles * _ROWS)
    return ranges, tiles, torch.empty(ranges, 2, x.shape[1], dtype=torch.float32, device=x.device)
