"""The operator written with plain torch operations: any device, no native code.

int64 holds the 32-bit words; a product of two of them wraps modulo 2^64, which keeps all 64 bits, and
masking after an arithmetic shift gives the upper half.
"""

import torch
from torch import Tensor

from noisevote.noise_op.layout import layout

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def words(seed: Tensor, vote: Tensor, site: int, step: int, blocks: int) -> Tensor:
    """Philox4x32-10 words of counter blocks 0 .. blocks−1 for each row: int64 [R, blocks, 4] below 2^32."""
    rows = seed.shape[0]
    block = torch.arange(blocks, device=seed.device).expand(rows, blocks)
    c0, c1 = block, torch.full_like(block, site)
    c2, c3 = vote[:, None].expand(rows, blocks), torch.full_like(block, step)
    k0, k1 = (seed & _MASK)[:, None], ((seed >> 32) & _MASK)[:, None]
    for _ in range(_ROUNDS):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK
        c2, c3 = ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return torch.stack((c0, c1, c2, c3), dim=-1)  # [rows, blocks, 4]


def normals(seed: Tensor, vote: Tensor, site: int, step: int, count: int) -> Tensor:
    """The first `count` normals of each row: float32 [R, count]."""
    pairs = words(seed, vote, site, step, (count + 3) // 4).reshape(seed.shape[0], -1, 2)
    w_radius, w_angle = pairs[..., 0], pairs[..., 1]
    u = (w_radius.to(torch.float32) + 0.5) * 2.0**-32
    r = torch.sqrt(-2.0 * torch.log(u))
    f = (((w_angle >> 6) & 0xFFFFFE) + 1).to(torch.float32) * 2.0**-24
    quarter = torch.pi / 2
    c = torch.sin(quarter * (1.0 - f)) * (1 - 2 * (w_angle >> 31))
    s = torch.sin(quarter * f) * (1 - 2 * ((w_angle >> 30) & 1))
    return torch.stack((r * c, r * s), dim=-1).reshape(seed.shape[0], -1)[:, :count]


def gaussian_noise(
    x: Tensor, sigma: Tensor, seed: Tensor, vote: Tensor, row: Tensor | None, step: int, site: int, relu: bool
) -> Tensor:
    """The operator of contract.py on x [N, ...], [R, ...] out; the memory layout of x is kept."""
    signal = x if row is None else x.index_select(0, row)
    count = signal[0].numel() if signal.numel() else 0
    z = normals(seed, vote, site, step, count).reshape(signal.shape)
    value = signal.to(torch.float32)
    amplitude = torch.sqrt((_per_row(sigma[:, 0], value) * value) ** 2 + _per_row(sigma[:, 1], value) ** 2)
    y = value + amplitude * z
    return (torch.relu(y) if relu else y).to(x.dtype).contiguous(memory_format=layout(x))


def gradient(g: Tensor, x: Tensor, y: Tensor, sigma: Tensor, row: Tensor | None, relu: bool) -> Tensor:
    """g·dy/dx summed over the rows that read each input; see native/apply.h for the formula."""
    value = (x if row is None else x.index_select(0, row)).to(torch.float32)
    noisy = y.to(torch.float32)
    squared = _per_row(sigma[:, 0], value) ** 2
    variance = squared * value * value + _per_row(sigma[:, 1], value) ** 2
    slope = torch.where(variance > 0, 1 + squared * value * (noisy - value) / variance.clamp_min(1e-45), 1.0)
    gx = g.to(torch.float32) * (torch.where(noisy > 0, slope, 0.0) if relu else slope)
    if row is not None:
        gx = torch.zeros(x.shape, device=x.device).index_add_(0, row, gx)
    return gx.to(x.dtype).contiguous(memory_format=layout(x))


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    """[R] shaped to broadcast over [R, ...]."""
    return values.to(torch.float32).reshape(-1, *([1] * (like.dim() - 1)))
