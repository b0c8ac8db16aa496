"""Files of one version of the operator turned into those of another one."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

from noisevote.engine.feeds import Feeds
from noisevote.engine.session import load_session
from noisevote.noise_op.contract import OP_VERSIONS, OperatorVersion
from noisevote.noise_op.library import Kernel
from noisevote.noise_op.onnx_versions import MixedDrawsError, draw_with, noise_nodes, operator_version
from noisevote.noise_op.reference import gaussian_noise
from tests.support.graphs import SHAPE, tiny_network

ROWS = np.arange(8)
INPUTS = np.random.default_rng(0).random((8, *SHAPE)).astype(np.float32)


def tiny(version: OperatorVersion) -> ModelProto:
    """The tiny network, drawing with that version."""
    model = onnx.load_from_string(tiny_network())
    draw_with(model, version)
    return model


def logits(model: ModelProto, kernel: Kernel | None, sigma: float) -> NDArray[np.float32]:
    """One vote of each input."""
    sigmas = np.tile(np.array([sigma, 0], np.float32), (len(ROWS), 1))
    return load_session(model.SerializeToString(), kernel).run(Feeds(INPUTS, sigmas, ROWS + 3, ROWS, ROWS))


@pytest.mark.parametrize("version", OP_VERSIONS)
def test_a_file_draws_as_it_says(kernel: Kernel, version: OperatorVersion) -> None:
    """The last site's noise is the reference's of that version, on the kernel and on the function body."""
    model = tiny(version)
    assert operator_version(model) == version
    assert {entry.domain: entry.version for entry in model.opset_import}["noisevote"] == version
    onnx.checker.check_model(model)
    quiet = tiny(version)
    (first, _) = noise_nodes(quiet.graph)
    first.input[1] = "silence"
    quiet.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((8, 2), np.float32), "silence"))
    signal = logits(quiet, kernel, 0.0)
    sigma = np.tile(np.array([0.4, 0], np.float32), (len(ROWS), 1))
    expected = gaussian_noise(signal, sigma, ROWS + 3, ROWS, site=1, version=version)
    for engine in (kernel, None):
        np.testing.assert_allclose(logits(quiet, engine, 0.4), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(logits(model, engine, 0.4), logits(model, kernel, 0.4), rtol=1e-3, atol=1e-4)


def test_versions_share_the_network_and_no_noise(kernel: Kernel) -> None:
    """Without noise they are one file; with noise they differ."""
    first, second = (tiny(version) for version in OP_VERSIONS)
    np.testing.assert_array_equal(logits(first, kernel, 0.0), logits(second, kernel, 0.0))
    assert np.abs(logits(first, kernel, 0.5) - logits(second, kernel, 0.5)).min() > 0


def test_there_and_back_gives_the_same_bytes() -> None:
    """A file of version 1 says nothing of versions, as those that were published before there were two."""
    model = tiny(2)
    draw_with(model, 1)
    assert model.SerializeToString(deterministic=True) == tiny(1).SerializeToString(deterministic=True)
    assert operator_version(onnx.load_from_string(tiny_network())) == 1


def test_nodes_of_two_versions_are_refused() -> None:
    """A file has one version; which nodes say otherwise is told."""
    model = tiny(2)
    first = next(noise_nodes(model.graph))
    del first.attribute[-1]
    with pytest.raises(MixedDrawsError, match=r"draws: nodes say \[1, 2\]"):
        operator_version(model)
