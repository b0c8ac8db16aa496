"""Names, limits and conversions that every implementation of the operator shares.

The operator is `Y = GaussianNoise(X, sigma, seed, vote, row?, step?)` with the attributes `site`
and `activation`; docs/architecture.md defines its draws, those of version 1 and those of version 2.

`QuantizedNoise` is the same between two signals of 8 bits, X and Y uint8. It has the attributes `scale`, `zero_point`,
`rate`, `y_zero_point` and `channels_last` beside: X stands for (X − zero_point)·scale, and Y for its distance from
y_zero_point, of which `rate` make a unit. All is counted in steps of Y: s = (X − zero_point)·(scale·rate), and Y is
y_zero_point + round(act(s + sqrt((sigma[r,0]·s)² + (sigma[r,1]·rate)²)·z)), halves to the even number, at least 0 and
at most 255. With `channels_last` 1 the channels of X and Y lie in their last dimension; draws are numbered as if they
lay in the second.
"""

import math
from typing import Final, Literal, get_args

DOMAIN: Final = "noisevote"
OP_TYPE: Final = "GaussianNoise"
QUANTIZED_OP_TYPE: Final = "QuantizedNoise"

OperatorVersion = Literal[1, 2]

# Versions differ in how they draw; one library computes both. OP_VERSION is what files are made with unless another
# one is asked for, and the only one that certificates are given for.
OP_VERSIONS: Final[tuple[OperatorVersion, ...]] = get_args(OperatorVersion)
OP_VERSION: Final = 1

PER_BLOCK: Final[dict[OperatorVersion, int]] = {1: 4, 2: 8}  # normals that the four words of a Philox block make

NoiseKind = Literal["multiplicative", "additive"]
Activation = Literal["none", "relu"]

NOISE_KINDS: Final[tuple[NoiseKind, ...]] = get_args(NoiseKind)
ACTIVATIONS: Final[tuple[Activation, ...]] = get_args(Activation)

# Counter words are 32 bits wide, so these are the largest values that stay distinct.
MAX_VOTE: Final = 2**32 - 1
MAX_SITE: Final = 2**32 - 1
MAX_STEP: Final = 2**32 - 1


def sigma_row(kind: NoiseKind, sigma: float, reads: int = 1) -> tuple[float, float]:
    """One row of the operator's `sigma` input: (multiplicative, additive) standard deviation.

    Args:
        kind: which of the paper's two noise models (section 2.1).
        sigma: standard deviation of one analog product's noise.
        reads: independent repetitions that are averaged; averaging R Gaussian reads has exactly
            the distribution of one read at sigma / sqrt(R).
    """
    effective = sigma / math.sqrt(reads)
    return (effective, 0.0) if kind == "multiplicative" else (0.0, effective)


def snr_db(sigma: float) -> float:
    """Signal-to-noise ratio in dB of multiplicative noise: −20·log10(sigma); infinite at sigma 0."""
    return math.inf if sigma == 0 else -20.0 * math.log10(sigma)


def sigma_of_snr_db(ratio: float) -> float:
    """The sigma whose signal-to-noise ratio is `ratio` dB: 10^(−ratio/20)."""
    return float(10.0 ** (-ratio / 20.0))
