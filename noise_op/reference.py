"""The operator written slowly and plainly in NumPy: what the other implementations are held against.

Each step follows the definition in docs/architecture.md, one array operation a line.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noisevote.noise_op.contract import OP_VERSION, PER_BLOCK, Activation, OperatorVersion
from noisevote.noise_op.nibble_tables import UNIT, WEIGHTS, entries

# Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.3 and table 2.
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
ROUNDS: dict[OperatorVersion, int] = {1: 10, 2: 7}  # the paper finds none of its tests failed from 7 on

_LARGEST_BYTE = 255

_MASK = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)


def philox4x32(counter: ArrayLike, key: ArrayLike, rounds: int = ROUNDS[OP_VERSION]) -> NDArray[np.uint32]:
    """Philox4x32 of so many rounds.

    Args:
        counter: [..., 4] words.
        key: [..., 2] words, broadcast against the counter.
        rounds: 10 in version 1 of the operator, 7 in version 2.

    Returns:
        uint32 [..., 4].
    """
    c = np.asarray(counter, np.uint64)
    k = np.asarray(key, np.uint64)
    c0, c1, c2, c3 = (c[..., i] for i in range(4))
    k0, k1 = k[..., 0], k[..., 1]
    for _ in range(rounds):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> _WORD) ^ c1 ^ k0, p1 & _MASK, (p0 >> _WORD) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + WEYL[0]) & _MASK, (k1 + WEYL[1]) & _MASK
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1).astype(np.uint32)


def normals(
    seed: int, vote: int, site: int, step: int, count: int, version: OperatorVersion = OP_VERSION
) -> NDArray[np.float32]:
    """The first `count` normals of one row: float32 [count]."""
    blocks = -(-count // PER_BLOCK[version])
    counter = np.empty((blocks, 4), np.uint64)
    counter[:] = (0, site, vote, step)
    counter[:, 0] = np.arange(blocks)
    bits = seed % 2**64
    words = philox4x32(counter, np.array([bits & 0xFFFFFFFF, bits >> 32], np.uint64), ROUNDS[version])
    if version == 1:
        pairs = words.reshape(-1, 2)  # [2 * blocks, (radius, angle)]
        return box_muller(pairs[:, 0], pairs[:, 1]).reshape(-1)[:count]
    halves = np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=-1)  # [blocks, 4, 2]
    return nibble_sums(halves.reshape(-1))[:count]


def nibble_sums(halves: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Version 2's normal of each 16 bits, exact in float32: [n] → float32 [n]."""
    table = entries()
    n = WEIGHTS[0] * table[halves & 0xFF] + WEIGHTS[1] * table[halves >> 8]
    return np.asarray(n * UNIT, np.float32)


def box_muller(radius_word: NDArray[np.uint32], angle_word: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Two normals from two words, by a quarter wave and two sign bits: [n], [n] → float32 [n, 2].

    Sine and cosine are taken in float64 here, so that this is the more exact side of every comparison.
    """
    u = (radius_word.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)
    r = np.sqrt(-2.0 * np.log(u.astype(np.float64)))
    k = (angle_word >> np.uint32(7)) & np.uint32(2**23 - 1)
    f = (2.0 * k + 1.0) * 2.0**-24
    cosine = np.sin(np.pi / 2 * (1.0 - f)) * np.where(angle_word >> np.uint32(31), -1.0, 1.0)
    sine = np.sin(np.pi / 2 * f) * np.where((angle_word >> np.uint32(30)) & np.uint32(1), -1.0, 1.0)
    return np.stack([r * cosine, r * sine], axis=-1).astype(np.float32)


def gaussian_noise(
    x: NDArray[np.float32],
    sigma: NDArray[np.float32],
    seed: NDArray[np.int64],
    vote: NDArray[np.int64],
    row: NDArray[np.int64] | None = None,
    step: int = 0,
    *,
    site: int,
    activation: Activation = "none",
    version: OperatorVersion = OP_VERSION,
) -> NDArray[np.float32]:
    """The operator, one row after the other.

    Args:
        x: [N, ...] signal.
        sigma: [R, 2] multiplicative and additive standard deviation.
        seed: [R] Philox keys as signed readings of 64 bits.
        vote: [R].
        row: [R] the row of x that each output row reads; None: its own.
        step: time step of a recurrent network.
        site: number of the operator in its graph.
        activation: "none" or "relu".
        version: of the operator.

    Returns:
        float32 [R, ...].
    """
    rows = []
    for r in range(len(sigma)):
        signal = x[r if row is None else row[r]]
        z = normals(int(seed[r]), int(vote[r]), site, step, signal.size, version).reshape(signal.shape)
        y = signal + np.hypot(sigma[r, 0] * signal, sigma[r, 1]) * z
        rows.append(np.maximum(y, 0) if activation == "relu" else y)
    return np.array(rows, np.float32).reshape(len(sigma), *x.shape[1:])


@dataclass(frozen=True)
class Quantization:
    """How QuantizedNoise reads and writes 8 bits: the attributes of its node, in the contract's words."""

    scale: float
    zero_point: int
    rate: float
    y_zero_point: int


def in_steps(x: NDArray[np.uint8], how: Quantization) -> NDArray[np.float32]:
    """The signal in X, float32, counted in steps of Y."""
    gain = np.float32(how.scale) * np.float32(how.rate)
    return (x.astype(np.float32) - np.float32(how.zero_point)) * gain


def rounded(steps: NDArray[np.float32], how: Quantization) -> NDArray[np.uint8]:
    """The nearest bytes, halves to the even one; what lies beyond 0 and 255 becomes these."""
    return np.clip(np.rint(steps) + np.float32(how.y_zero_point), 0, _LARGEST_BYTE).astype(np.uint8)


def noisy(
    x: NDArray[np.float32], sigma: NDArray[np.float32], z: NDArray[np.float32], activation: Activation
) -> NDArray[np.float32]:
    """One row's noisy signal in float32, each operation rounded once, as the kernel does it: what bytes are made of.

    Args:
        x: [...] signal of one row.
        sigma: [2] multiplicative and additive standard deviation.
        z: [...] normals.
        activation: "none" or "relu".
    """
    multiplicative, additive = sigma
    if additive == 0:
        amplitude = np.abs(multiplicative * x)
    elif multiplicative == 0:
        amplitude = np.full_like(x, additive)
    else:
        amplitude = np.sqrt((multiplicative * x) ** 2 + additive * additive)
    y = x + amplitude * z
    return np.asarray(np.maximum(y, np.float32(0)) if activation == "relu" else y)


def sigma_in_steps(sigma: NDArray[np.float32], how: Quantization) -> NDArray[np.float32]:
    """Standard deviations [..., 2] of a signal that is counted in steps of Y."""
    return sigma * np.array([1, how.rate], np.float32)


def quantized_noise(
    x: NDArray[np.uint8],
    sigma: NDArray[np.float32],
    seed: NDArray[np.int64],
    vote: NDArray[np.int64],
    row: NDArray[np.int64] | None = None,
    step: int = 0,
    *,
    site: int,
    activation: Activation = "none",
    how: Quantization,
    channels_last: bool = False,
    version: OperatorVersion = OP_VERSION,
) -> NDArray[np.uint8]:
    """QuantizedNoise, one row after the other; arguments as of `gaussian_noise`, uint8 [N, ...] → uint8 [R, ...]."""
    rows = []
    for r in range(len(sigma)):
        signal = in_steps(x[r if row is None else row[r]], how)
        z = normals(int(seed[r]), int(vote[r]), site, step, signal.size, version)
        in_order = np.moveaxis(signal, -1, 0) if channels_last else signal  # as draws are numbered
        y = noisy(in_order, sigma_in_steps(sigma[r], how), z.reshape(in_order.shape), activation)
        rows.append(rounded(np.moveaxis(y, 0, -1) if channels_last else y, how))
    return np.array(rows, np.uint8).reshape(len(sigma), *x.shape[1:])
