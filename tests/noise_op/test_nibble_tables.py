from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from noisevote.noise_op.function_body import gaussian_noise_function
from noisevote.noise_op.library import Batch, Blocks, Kernel, Team
from noisevote.noise_op.nibble_tables import UNIT
from noisevote.noise_op.reference import nibble_sums, normals
from tests.noise_op.conftest import FLOAT, graph, session
from tests.support.effort import examples

WORDS = st.integers(0, 2**32 - 1)


def known_answers() -> list[tuple[tuple[int, int, int, int], NDArray[np.int64]]]:
    """(seed, vote, site, step) and the first 24 numbers n = z·2¹² of each known answer of version 2."""
    text = (Path(__file__).parent / "version_2_known_answers.txt").read_text()
    rows = [[int(number) for number in line.split()] for line in text.splitlines() if not line.startswith("#")]
    return [((row[0], row[1], row[2], row[3]), np.array(row[4:])) for row in rows]


def by_function_body(seed: int, vote: int, site: int, step: int, count: int) -> NDArray[np.float32]:
    """The normals as stock ONNX Runtime computes them: what additive noise of sigma 1 makes of zeros."""
    model = graph(gaussian_noise_function(2), {"y": FLOAT}, version=2, site=site, activation="none")
    feeds = {
        "x": np.zeros((1, count), np.float32),
        "sigma": np.array([[0, 1]], np.float32),
        "seed": np.array([seed - 2**64 if seed >= 2**63 else seed]),
        "vote": np.array([vote]),
        "row": np.array([0]),
        "step": np.array(step),
    }
    return np.asarray(session(model, None).run(["y"], feeds)[0][0], np.float32)


def test_known_answers(kernel: Kernel) -> None:
    """Reference, every instruction set and the function body draw the numbers that are written down, and no others."""
    answers = known_answers()
    assert len(answers) >= 4
    for (seed, vote, site, step), expected in answers:
        z = expected * UNIT
        np.testing.assert_array_equal(normals(seed, vote, site, step, 24, version=2), z)
        np.testing.assert_array_equal(by_function_body(seed, vote, site, step, 24), z)
        for isa in kernel.isas():
            np.testing.assert_array_equal(kernel.normals(Blocks(seed, site, vote, step, 0, 3), isa=isa, version=2), z)


@settings(deadline=None, max_examples=examples(30))
@given(seed=st.integers(0, 2**64 - 1), site=WORDS, vote=WORDS, step=WORDS, count=st.integers(1, 2000))
def test_normals_agree_bit_for_bit(kernel: Kernel, seed: int, site: int, vote: int, step: int, count: int) -> None:
    """Version 2 rounds nothing, so that all implementations draw the same numbers in every bit."""
    expected = normals(seed, vote, site, step, count, version=2)
    for isa in kernel.isas():
        drawn = kernel.normals(Blocks(seed, site, vote, step, 0, -(-count // 8)), isa=isa, version=2)
        np.testing.assert_array_equal(drawn[:count], expected)
    np.testing.assert_array_equal(by_function_body(seed, vote, site, step, count), expected)


@pytest.mark.parametrize(("channels", "positions"), [(5, 12), (16, 9), (3, 8)])
def test_floats_with_channels_last_meet_the_same_draws(kernel: Kernel, channels: int, positions: int) -> None:
    """Elements are numbered channel by channel, however they lie, on every instruction set."""
    expected = normals(9, 2, 1, 0, channels * positions, version=2).reshape(channels, positions)
    x, y = np.zeros((positions, channels), np.float32), np.empty((positions, channels), np.float32)
    sigma, seed, vote = np.array([[0, 1]], np.float32), np.array([9]), np.array([2])
    batch = Batch(
        rows=1, channels=channels, positions=positions, channels_last=True, sigma=sigma.ctypes.data,
        seed=seed.ctypes.data, vote=vote.ctypes.data, source=None, site=1, step=0, relu=False, version=2,
    )  # fmt: skip
    for isa in kernel.isas():
        kernel.forward(batch, False, x.ctypes.data, y.ctypes.data, Team(1, None), isa=isa)
        np.testing.assert_array_equal(y.T, expected)


def test_the_values_are_as_normal_as_is_said() -> None:
    """All 65,536: symmetric, moments and distance from the normal as stated, tails of nearly the right weight."""
    z = np.sort(nibble_sums(np.arange(2**16, dtype=np.uint32))).astype(np.float64)
    np.testing.assert_array_equal(z, -z[::-1])
    assert abs((z**2).mean() - 1) < 2e-8
    np.testing.assert_allclose([(z**k).mean() for k in (4, 6, 8)], [2.9971, 14.927, 103.2], rtol=5e-4)
    assert round(z[-1], 3) == 4.346
    values, counts = np.unique(z, return_counts=True)
    share = np.cumsum(counts) / len(z)
    distance = max(
        np.abs(share - stats.norm.cdf(values)).max(), np.abs(share - counts / len(z) - stats.norm.cdf(values)).max()
    )
    assert distance < 4.7e-4
    for bound, tolerance in ((1, 0.001), (2, 0.005), (3, 0.03)):
        assert abs((np.abs(z) > bound).mean() / (2 * stats.norm.sf(bound)) - 1) < tolerance
