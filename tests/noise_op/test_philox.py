from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from noisevote.noise_op import torch_philox
from noisevote.noise_op.function_body import philox_words_function
from noisevote.noise_op.library import ISAS, Kernel, UnknownIsaError
from noisevote.noise_op.reference import normals, philox4x32
from tests.noise_op.conftest import UINT64, graph, session
from tests.support.effort import examples

WORDS = st.integers(0, 2**32 - 1)
SEEDS = st.integers(0, 2**64 - 1)


def known_answers() -> list[NDArray[np.uint32]]:
    """Rows of counter (4), key (2) and result (4)."""
    text = (Path(__file__).parent / "philox4x32_known_answers.txt").read_text()
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return [np.array([int(word, 16) for word in line], np.uint32) for line in lines]


def seed_of(key: NDArray[np.uint32]) -> int:
    """The caller's seed whose Philox key is `key`."""
    return int(key[0]) | int(key[1]) << 32


@pytest.mark.parametrize("answer", known_answers())
def test_reference_gives_the_published_words(answer: NDArray[np.uint32]) -> None:
    """The NumPy reference reproduces the published Philox4x32-10 vectors."""
    assert (philox4x32(answer[:4], answer[4:6]) == answer[6:]).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("answer", known_answers())
def test_kernel_gives_the_published_words(kernel: Kernel, answer: NDArray[np.uint32], isa: str) -> None:
    """Every instruction set of the kernel reproduces them, or says that it cannot run here."""
    block, site, vote, step = (int(word) for word in answer[:4])
    arguments = (seed_of(answer[4:6]), site, vote, step, block, 1)
    if isa in kernel.isas():
        assert (kernel.words(*arguments, isa=isa)[0] == answer[6:]).all()
    else:
        with pytest.raises(UnknownIsaError, match=isa):
            kernel.words(*arguments, isa=isa)


@settings(deadline=None, max_examples=examples(50))
@given(seed=SEEDS, site=WORDS, vote=WORDS, step=WORDS, blocks=st.integers(1, 40))
def test_words_agree_bit_for_bit(kernel: Kernel, seed: int, site: int, vote: int, step: int, blocks: int) -> None:
    """Reference, every instruction set, torch and the ONNX function body draw the same words."""
    counter = np.zeros((blocks, 4), np.uint64)
    counter[:] = (0, site, vote, step)
    counter[:, 0] = np.arange(blocks)
    expected = philox4x32(counter, [seed & 0xFFFFFFFF, seed >> 32])
    for isa in kernel.isas():
        assert (kernel.words(seed, site, vote, step, 0, blocks, isa=isa) == expected).all(), isa
    signed = seed - 2**64 if seed >= 2**63 else seed
    in_torch = torch_philox.words(torch.tensor([signed]), torch.tensor([vote]), site, step, blocks)
    assert (in_torch[0].numpy() == expected).all()
    assert (function_body_words(signed, site, vote, step, blocks) == expected).all()


def function_body_words(seed: int, site: int, vote: int, step: int, blocks: int) -> NDArray[np.uint64]:
    """Words [blocks, 4] as stock ONNX Runtime computes them from standard operators."""
    attribute = np.int64(site).item()
    model = graph(philox_words_function(), dict.fromkeys(("w0", "w1", "w2", "w3"), UINT64), site=attribute)
    feeds = {
        "x": np.zeros((1, 4 * blocks), np.float32),
        "sigma": np.zeros((1, 2), np.float32),
        "seed": np.array([seed]),
        "vote": np.array([vote]),
        "row": np.array([0]),
        "step": np.array(step),
    }
    words = session(model, None).run(["w0", "w1", "w2", "w3"], feeds)
    return np.stack([np.broadcast_to(word, (1, blocks))[0] for word in words], axis=-1)


def test_counter_blocks_can_start_anywhere(kernel: Kernel) -> None:
    """A draw depends on its block number alone, not on where a call began or how many it asked for."""
    whole = kernel.words(7, 1, 2, 3, 0, 100)
    for first, blocks in ((0, 1), (1, 15), (17, 16), (33, 67)):
        for isa in kernel.isas():
            assert (kernel.words(7, 1, 2, 3, first, blocks, isa=isa) == whole[first : first + blocks]).all()


@settings(deadline=None, max_examples=examples(50))
@given(seed=SEEDS, site=WORDS, vote=WORDS, step=WORDS, count=st.integers(1, 2000))
def test_normals_agree_to_1e_5_relative(kernel: Kernel, seed: int, site: int, vote: int, step: int, count: int) -> None:
    """Every normal is within 1e-5 of the reference, relative to itself; instruction sets agree bit for bit."""
    expected = normals(seed, vote, site, step, count)
    per_isa = [kernel.normals(seed, site, vote, step, 0, (count + 3) // 4, isa=isa)[:count] for isa in kernel.isas()]
    for drawn in per_isa:
        np.testing.assert_allclose(drawn, expected, rtol=1e-5, atol=0)
        assert (drawn.view(np.uint32) == per_isa[0].view(np.uint32)).all()
    signed = seed - 2**64 if seed >= 2**63 else seed
    in_torch = torch_philox.normals(torch.tensor([signed]), torch.tensor([vote]), site, step, count)
    np.testing.assert_allclose(in_torch[0].numpy(), expected, rtol=1e-5, atol=0)
