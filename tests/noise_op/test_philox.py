from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from noisevote.noise_op import torch_philox
from noisevote.noise_op.contract import OP_VERSIONS, PER_BLOCK, OperatorVersion
from noisevote.noise_op.function_body import philox_words_function
from noisevote.noise_op.library import ISAS, Blocks, Kernel, UnknownIsaError
from noisevote.noise_op.reference import ROUNDS, normals, philox4x32
from tests.noise_op.conftest import UINT64, graph, session
from tests.support.effort import examples

WORDS = st.integers(0, 2**32 - 1)
SEEDS = st.integers(0, 2**64 - 1)


VERSIONS = st.sampled_from(OP_VERSIONS)


@dataclass(frozen=True)
class Answer:
    """One published vector, and the version of the operator that draws so."""

    version: OperatorVersion
    counter: NDArray[np.uint32]
    key: NDArray[np.uint32]
    result: NDArray[np.uint32]


def known_answers() -> list[Answer]:
    """The published vectors of every version's number of rounds."""
    text = (Path(__file__).parent / "philox4x32_known_answers.txt").read_text()
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    versions = {rounds: version for version, rounds in ROUNDS.items()}
    words = [np.array([int(word, 16) for word in line[1:]], np.uint32) for line in lines]
    return [Answer(versions[int(line[0])], row[:4], row[4:6], row[6:]) for line, row in zip(lines, words, strict=True)]


def seed_of(key: NDArray[np.uint32]) -> int:
    """The caller's seed whose Philox key is `key`."""
    return int(key[0]) | int(key[1]) << 32


def test_every_version_has_published_words() -> None:
    """The file of known answers speaks of each version's number of rounds."""
    assert {answer.version for answer in known_answers()} == set(OP_VERSIONS)


@pytest.mark.parametrize("answer", known_answers())
def test_reference_gives_the_published_words(answer: Answer) -> None:
    """The NumPy reference reproduces the published vectors of Philox4x32-10 and Philox4x32-7."""
    assert (philox4x32(answer.counter, answer.key, ROUNDS[answer.version]) == answer.result).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("answer", known_answers())
def test_kernel_gives_the_published_words(kernel: Kernel, answer: Answer, isa: str) -> None:
    """Every instruction set of the kernel reproduces them, or says that it cannot run here."""
    block, site, vote, step = (int(word) for word in answer.counter)
    one = Blocks(seed_of(answer.key), site, vote, step, block, 1)
    if isa in kernel.isas():
        assert (kernel.words(one, isa=isa, version=answer.version)[0] == answer.result).all()
    else:
        with pytest.raises(UnknownIsaError, match=isa):
            kernel.words(one, isa=isa)


@settings(deadline=None, max_examples=examples(50))
@given(seed=SEEDS, site=WORDS, vote=WORDS, step=WORDS, blocks=st.integers(1, 40), version=VERSIONS)
def test_words_agree_bit_for_bit(
    kernel: Kernel, seed: int, site: int, vote: int, step: int, blocks: int, version: OperatorVersion
) -> None:
    """Reference, every instruction set, the ONNX function body and (version 1) torch draw the same words."""
    counter = np.zeros((blocks, 4), np.uint64)
    counter[:] = (0, site, vote, step)
    counter[:, 0] = np.arange(blocks)
    expected = philox4x32(counter, [seed & 0xFFFFFFFF, seed >> 32], ROUNDS[version])
    of = Blocks(seed, site, vote, step, 0, blocks)
    for isa in kernel.isas():
        assert (kernel.words(of, isa=isa, version=version) == expected).all(), isa
    signed = seed - 2**64 if seed >= 2**63 else seed
    assert (function_body_words(signed, site, vote, step, blocks, version) == expected).all()
    if version == 1:
        in_torch = torch_philox.words(torch.tensor([signed]), torch.tensor([vote]), site, step, blocks)
        assert (in_torch[0].numpy() == expected).all()


def function_body_words(
    seed: int, site: int, vote: int, step: int, blocks: int, version: OperatorVersion
) -> NDArray[np.uint64]:
    """Words [blocks, 4] as stock ONNX Runtime computes them from standard operators."""
    attribute = np.int64(site).item()
    model = graph(
        philox_words_function(version), dict.fromkeys(("w0", "w1", "w2", "w3"), UINT64), version=version, site=attribute
    )
    feeds = {
        "x": np.zeros((1, PER_BLOCK[version] * blocks), np.float32),
        "sigma": np.zeros((1, 2), np.float32),
        "seed": np.array([seed]),
        "vote": np.array([vote]),
        "row": np.array([0]),
        "step": np.array(step),
    }
    words = session(model, None).run(["w0", "w1", "w2", "w3"], feeds)
    return np.stack([np.broadcast_to(word, (1, blocks))[0] for word in words], axis=-1)


@pytest.mark.parametrize("version", OP_VERSIONS)
def test_counter_blocks_can_start_anywhere(kernel: Kernel, version: OperatorVersion) -> None:
    """A draw depends on its block number alone, not on where a call began or how many it asked for."""
    blocks_of = partial(Blocks, 7, 1, 2, 3)
    whole = kernel.words(blocks_of(0, 100), version=version)
    drawn = kernel.normals(blocks_of(0, 100), version=version).reshape(100, -1)
    for first, count in ((0, 1), (1, 15), (17, 16), (33, 67)):
        of, here = blocks_of(first, count), slice(first, first + count)
        for isa in kernel.isas():
            assert (kernel.words(of, isa=isa, version=version) == whole[here]).all()
            assert (kernel.normals(of, isa=isa, version=version) == drawn[here].reshape(-1)).all()


@settings(deadline=None, max_examples=examples(50))
@given(seed=SEEDS, site=WORDS, vote=WORDS, step=WORDS, count=st.integers(1, 2000))
def test_normals_agree_to_1e_5_relative(kernel: Kernel, seed: int, site: int, vote: int, step: int, count: int) -> None:
    """Every normal is within 1e-5 of the reference, relative to itself; instruction sets agree bit for bit."""
    expected = normals(seed, vote, site, step, count)
    of = Blocks(seed, site, vote, step, 0, (count + 3) // 4)
    per_isa = [kernel.normals(of, isa=isa)[:count] for isa in kernel.isas()]
    for drawn in per_isa:
        np.testing.assert_allclose(drawn, expected, rtol=1e-5, atol=0)
        assert (drawn.view(np.uint32) == per_isa[0].view(np.uint32)).all()
    signed = seed - 2**64 if seed >= 2**63 else seed
    in_torch = torch_philox.normals(torch.tensor([signed]), torch.tensor([vote]), site, step, count)
    np.testing.assert_allclose(in_torch[0].numpy(), expected, rtol=1e-5, atol=0)
