import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from noisevote.noise_op.contract import OP_VERSIONS, PER_BLOCK, OperatorVersion
from noisevote.noise_op.library import Blocks, Kernel
from noisevote.noise_op.reference import nibble_sums

pytestmark = pytest.mark.slow

DRAWS = 12_000_000
NEIGHBOURS = 1_000_000


def draws(
    kernel: Kernel, count: int, version: OperatorVersion, *, seed: int = 1, site: int = 0, vote: int = 0, step: int = 0
) -> NDArray[np.float64]:
    """`count` normals in float64."""
    blocks = count // PER_BLOCK[version]
    return kernel.normals(Blocks(seed, site, vote, step, 0, blocks), version=version).astype(np.float64)


@pytest.fixture(scope="module", params=OP_VERSIONS)
def version(request: pytest.FixtureRequest) -> OperatorVersion:
    """Every version of the operator."""
    drawn: OperatorVersion = request.param
    return drawn


@pytest.fixture(scope="module")
def many(kernel: Kernel, version: OperatorVersion) -> NDArray[np.float64]:
    """12 million draws over 12 votes, as many as the sites of some 150 votes of a small network."""
    return np.concatenate([draws(kernel, DRAWS // 12, version, vote=vote) for vote in range(12)])


@pytest.fixture(scope="module")
def lattice() -> NDArray[np.float64]:
    """The equally likely values of version 2, sorted: [65536]."""
    return np.sort(nibble_sums(np.arange(2**16, dtype=np.uint32))).astype(np.float64)


def test_mean_variance_skewness_and_kurtosis_are_those_of_a_normal(many: NDArray[np.float64]) -> None:
    """The first four moments lie within 5 standard errors of N(0, 1)'s: 0, 1, 0, 3."""
    n = len(many)
    assert abs(many.mean()) < 5 * np.sqrt(1 / n)
    assert abs(many.var() - 1) < 5 * np.sqrt(2 / n)
    squares = many * many  # NumPy's powers of three and four take ten times as long
    assert abs((squares * many).mean()) < 5 * np.sqrt(15 / n)
    assert abs((squares * squares).mean() - 3) < 5 * np.sqrt(96 / n)


def test_a_kolmogorov_smirnov_test_does_not_reject_the_stated_distribution(
    many: NDArray[np.float64], version: OperatorVersion, lattice: NDArray[np.float64]
) -> None:
    """Over 1.2e7 draws the distance is one that chance explains: to the normal, and of version 2 to its lattice."""
    n = len(many)
    assert n >= 10**7
    drawn = np.sort(many)
    if version == 1:
        stated, steps = special.ndtr(drawn), np.arange(n + 1) / n
        distance = max((steps[1:] - stated).max(), (stated - steps[:-1]).max())
    else:
        values = np.unique(lattice)
        stated = np.searchsorted(lattice, values, side="right") / len(lattice)
        distance = np.abs(np.searchsorted(drawn, values, side="right") / n - stated).max()
    assert stats.kstwobign.sf(distance * np.sqrt(n)) > 0.001  # on a lattice this asks for more


def test_halves_of_a_word_are_independent(kernel: Kernel, lattice: NDArray[np.float64]) -> None:
    """Which of 16 bins one half of a word falls into says nothing of the other half: chi-square over 4e6 pairs."""
    edges = lattice[2**12 :: 2**12]
    pairs = draws(kernel, 8_000_000, 2).reshape(-1, 2)
    bins = np.searchsorted(edges, pairs, side="right")
    counts = np.bincount(16 * bins[:, 0] + bins[:, 1], minlength=256).reshape(16, 16)
    assert counts.min() > 10_000
    assert stats.chi2_contingency(counts).pvalue > 0.001


def test_tails_have_the_weight_of_a_normal(
    many: NDArray[np.float64], version: OperatorVersion, lattice: NDArray[np.float64]
) -> None:
    """Beyond 3, 4 and 5 sigma there are as many draws as there should be (Poisson, 5 standard errors)."""
    for bound in (3.0, 4.0, 5.0):
        share = 2 * stats.norm.sf(bound) if version == 1 else (np.abs(lattice) > bound).mean()
        expected = share * len(many)
        assert abs(np.count_nonzero(np.abs(many) > bound) - expected) < 5 * np.sqrt(expected) + 5


@pytest.mark.parametrize(
    "other",
    [{"site": 1}, {"vote": 1}, {"seed": 2}, {"seed": 1 + 2**32}, {"step": 1}, {"site": 2**31}, {"vote": 2**31}],
    ids=str,
)
def test_neighbouring_streams_are_uncorrelated(kernel: Kernel, version: OperatorVersion, other: dict[str, int]) -> None:
    """Streams one apart in site, vote, seed or step share nothing: |r| of values and of squares below 5/√n."""
    a, b = draws(kernel, NEIGHBOURS, version), draws(kernel, NEIGHBOURS, version, **other)
    bound = 5 / np.sqrt(NEIGHBOURS)
    assert abs(np.corrcoef(a, b)[0, 1]) < bound
    assert abs(np.corrcoef(a**2, b**2)[0, 1]) < bound


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8, 16, 64, 128])
def test_elements_of_one_row_are_uncorrelated(kernel: Kernel, version: OperatorVersion, lag: int) -> None:
    """Draws of one stream do not depend on each other, inside a block, across blocks and across vectors."""
    a = draws(kernel, NEIGHBOURS, version)
    assert abs(np.corrcoef(a[:-lag], a[lag:])[0, 1]) < 5 / np.sqrt(NEIGHBOURS)
    assert abs(np.corrcoef(a[:-lag] ** 2, a[lag:] ** 2)[0, 1]) < 5 / np.sqrt(NEIGHBOURS)
