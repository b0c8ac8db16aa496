from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks.older_processor import CannotLookOlderError, run
from noisevote.engine.session import load_session
from noisevote.evaluation.examples import Examples
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import DOMAIN, OP_TYPE, QUANTIZED_OP_TYPE
from noisevote.noise_op.onnx_versions import draw_with, operator_version
from noisevote.noise_op.reference import Quantization, quantized_noise
from noisevote.service.settings import Settings
from noisevote.training.publish import export
from noisevote.training.publish.quantize import LARGEST_WEIGHT, UnquantizableError, quantized
from tests.support import smoothed
from tests.support.graphs import SHAPE, tiny_network
from tests.support.onnx_sessions import session

Feed = dict[str, NDArray[np.generic]]


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Inputs of the tiny network, as bytes."""
    rng = np.random.default_rng(3)
    return Examples(rng.integers(0, 256, (64, *SHAPE), np.uint8), np.zeros(64, np.int64))


@pytest.fixture(scope="module")
def file(examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network in 8 bits."""
    path = tmp_path_factory.mktemp("int8") / "tiny-int8.onnx"
    export.write(quantized(tiny_network(), examples, "multiplicative", (0.0, 0.5), {"precision": "int8"}), path)
    return path


def feed(examples: Examples, sigma: float, rows: int = 40) -> Feed:
    """Rows over a few inputs, each with a seed and a vote of its own."""
    rng = np.random.default_rng(0)
    return {
        "input": examples.values(slice(0, 5)),
        "sigma": np.tile(np.array([[sigma, 0]], np.float32), (rows, 1)),
        "seed": rng.integers(-(2**63), 2**63, rows, np.int64),
        "vote": np.arange(rows),
        "row": rng.integers(0, 5, rows),
    }


def logits(file: Path, feeds: Feed, *, kernel: bool = True) -> NDArray[np.float32]:
    """What ONNX Runtime makes of them."""
    return np.asarray(session(file, kernel=kernel).run(None, feeds)[0])


@dataclass(frozen=True)
class Graph:
    """A file's nodes of 8 bits, as arrays."""

    model: onnx.ModelProto

    def constants(self, op_type: str) -> list[Any]:
        """What a node of that type has as inputs; None where an input is no constant."""
        values = {value.name: numpy_helper.to_array(value) for value in self.model.graph.initializer}
        return [values.get(name) for name in self.node(op_type).input]

    def node(self, op_type: str) -> onnx.NodeProto:
        """The only node of that type."""
        found: list[onnx.NodeProto] = [node for node in self.model.graph.node if node.op_type == op_type]
        assert len(found) == 1
        return found[0]


def by_integers(model: onnx.ModelProto, feeds: Any) -> NDArray[np.float32]:
    """The tiny network's logits without noise at its output, with every product a sum of exact integers."""
    graph = Graph(model)
    _, x_scale, x_zero, w, w_scale, _, y_scale, y_zero, bias = graph.constants("QLinearConv")
    steps = np.clip(np.rint(feeds["input"] / x_scale) + x_zero, 0, 255).astype(np.int64)
    padded = np.pad(steps, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=int(x_zero)) - int(x_zero)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # [N, C, H, W, 3, 3]
    sums = np.einsum("nchwij,ocij->nhwo", windows, w.astype(np.int64)) + bias
    rates = (x_scale * w_scale / y_scale).astype(np.float32)
    signal = np.clip(np.rint(sums.astype(np.float32) * rates) + y_zero, 0, 255).astype(np.uint8)  # channels last
    found = {a.name: a for a in graph.node(QUANTIZED_OP_TYPE).attribute}
    how = Quantization(found["scale"].f, found["zero_point"].i, found["rate"].f, found["y_zero_point"].i)
    drawn = (feeds[name] for name in ("sigma", "seed", "vote", "row"))
    noisy = quantized_noise(signal, *drawn, site=0, activation="relu", how=how, channels_last=True)
    _, a_scale, a_zero, matrix, m_scale, _, m_bias = graph.constants("QGemm")
    flat = noisy.reshape(len(noisy), -1).astype(np.int64) - int(a_zero)
    products = flat @ (matrix.T if matrix.shape[1] == flat.shape[1] else matrix).astype(np.int64) + m_bias
    return np.asarray(products.astype(np.float32) * (a_scale * m_scale).astype(np.float32))


def test_every_noise_lies_between_bytes_and_weights_have_seven_bits(file: Path) -> None:
    """Nothing in the file is computed in float32 but the last noise, and what an instruction adds fits 16 bits."""
    model = onnx.load(file)
    ops = [node.op_type for node in model.graph.node if node.domain == DOMAIN]
    assert ops == [QUANTIZED_OP_TYPE, OP_TYPE]
    assert not {"Conv", "Gemm", "DequantizeLinear", "Relu"} & {node.op_type for node in model.graph.node}
    weights = [numpy_helper.to_array(value) for value in model.graph.initializer if value.name.endswith("quantized")]
    eight_bits = [value for value in weights if value.dtype == np.int8]
    assert len(eight_bits) == 2
    assert all(np.abs(value.astype(int)).max() <= LARGEST_WEIGHT for value in eight_bits)
    assert {entry.key: entry.value for entry in model.metadata_props}["precision"] == "int8"


def test_products_are_exact_integers(file: Path, examples: Examples) -> None:
    """Without noise every logit is, bit for bit, what exact integers give: no sum overflows, none depends on order."""
    feeds = feed(examples, 0.0)
    np.testing.assert_array_equal(logits(file, feeds), by_integers(onnx.load(file), feeds))


def test_noise_is_that_of_the_float32_file(file: Path, examples: Examples, tmp_path: Path) -> None:
    """The same seed and vote draw the same noise: logits follow the twin's from draw to draw."""
    original = tmp_path / "tiny.onnx"
    original.write_bytes(tiny_network())
    feeds = feed(examples, 0.5)
    expected, found = logits(original, feeds), logits(file, feeds)
    other = logits(original, feeds | {"seed": np.asarray(feeds["seed"], np.int64) ^ 1})
    assert np.abs(found - expected).mean() < 0.1 * np.abs(other - expected).mean()


def test_any_onnx_runtime_runs_it(file: Path, examples: Examples) -> None:
    """Without our library the function bodies draw the same noise, and the service's checks pass on both."""
    feeds = feed(examples, 0.5)
    kernel, body = logits(file, feeds), logits(file, feeds, kernel=False)
    np.testing.assert_allclose(kernel, body, atol=0.05 * float(np.abs(kernel).max()))
    load_session(file.read_bytes(), None)


def test_the_same_network_gives_the_same_bytes(file: Path, examples: Examples) -> None:
    """A twin can be made again."""
    again = quantized(tiny_network(), examples, "multiplicative", (0.0, 0.5), {"precision": "int8"})
    assert again.SerializeToString(deterministic=True) == file.read_bytes()


def test_another_instruction_set_gives_the_same_bits(file: Path, examples: Examples, tmp_path: Path) -> None:
    """On AVX2 without VNNI, where two products are added in 16 bits, all logits are those of the widest set here."""
    feeds = feed(examples, 0.5)
    np.savez(tmp_path / "feeds.npz", **feeds)  # type: ignore[arg-type]  # arrays of several types
    program = (
        "import sys, numpy as np; from pathlib import Path; from tests.support.onnx_sessions import session;"
        "from noisevote.noise_op.library import load_kernel;"
        "feeds = dict(np.load(sys.argv[2])); found = session(Path(sys.argv[1]), kernel=True).run(None, feeds)[0];"
        "np.save(sys.argv[3], found); print(load_kernel().isa)"
    )
    try:
        isa = run(["-c", program, str(file), str(tmp_path / "feeds.npz"), str(tmp_path / "logits.npy")])
    except CannotLookOlderError as why:
        pytest.skip(str(why))
    assert isa.strip() == "avx2"
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), logits(file, feeds))


def test_noise_that_lies_elsewhere_is_refused() -> None:
    """Noise on the input, before any product, stays float32; so does a recurrence, which draws at every step."""
    inputs = Examples(np.zeros((4, *smoothed.SHAPE), np.uint8), np.zeros(4, np.int64))
    with pytest.raises(UnquantizableError, match="noise on 'input': it is none of a Conv or Gemm"):
        quantized(smoothed.smoothed_network(), inputs, "additive", (0.5,), {})
    store = ModelStore(Settings.model_fields["model_store"].default)
    strokes = store.manifest("stroke-lstm")
    with pytest.raises(UnquantizableError, match="a recurrence is not computed in 8 bits"):
        quantized(store.read(strokes, strokes.variants[0]), inputs, "multiplicative", (0.5,), {})


def test_a_twin_of_version_2_draws_so_in_bytes_too(examples: Examples, tmp_path: Path) -> None:
    """All of its noise is version 2's, and kernel and function body make the same of it, but for rounding."""
    model = quantized(tiny_network(), examples, "multiplicative", (0.0, 0.5), {"precision": "int8"}, operator=2)
    assert operator_version(model) == 2
    path = tmp_path / "tiny-int8.onnx"
    export.write(model, path)
    feeds = feed(examples, 0.5)
    kernel, body = logits(path, feeds), logits(path, feeds, kernel=False)
    apart = np.abs(kernel - body)
    assert np.median(apart) < 1e-5 * np.abs(kernel).max()
    draw_with(model, 1)
    export.write(model, path)
    assert np.median(np.abs(kernel - logits(path, feeds))) > 1e-3 * np.abs(kernel).max()
