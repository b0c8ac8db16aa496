from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from noisevote.evaluation.examples import Examples
from noisevote.noise_op.contract import DOMAIN, OP_TYPE
from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.publish import export
from noisevote.training.runs.run_folder import RunFolder
from tests.support.onnx_sessions import session

Feed = dict[str, NDArray[np.generic]]


def mixed_rows(digits: Examples, inputs: int, rows: int) -> Feed:
    """Rows that differ in input, sigma, kind of noise, 64-bit seed and vote."""
    generator = np.random.default_rng(0)
    return {
        "input": digits.values(slice(inputs)),
        "sigma": generator.uniform(0, (0.6, 0.2), (rows, 2)).astype(np.float32),
        "seed": generator.integers(-(2**63), 2**63, rows, np.int64),
        "vote": generator.integers(0, 2**32, rows, np.int64),
        "row": generator.integers(0, inputs, rows, np.int64),
    }


def torch_logits(folder: RunFolder, feed: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    """The unfolded network's logits with the same draws."""
    network = folder.read_network()
    images, sigma, seed, vote, row = (torch.from_numpy(feed[name]) for name in export.INPUT_NAMES)
    with torch.no_grad(), drawing(Draws(sigma, seed, vote, row)):
        logits: NDArray[np.float32] = network(images).numpy()
    return logits


@pytest.mark.parametrize(("inputs", "rows"), [(1, 1), (3, 40), (40, 3)])
@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "function-body"])
def test_file_and_network_decide_alike(
    exported: Path, trained: RunFolder, digits: Examples, kernel: bool, inputs: int, rows: int
) -> None:
    """Any rows over any inputs get the torch network's logits, on the kernel and in ONNX Runtime as it comes."""
    feed = mixed_rows(digits, inputs, rows)
    expected = torch_logits(trained, feed)
    (found,) = session(exported, kernel=kernel).run(None, feed)
    assert found.shape == (rows, 10)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * float(np.abs(expected).max()))
    assert np.array_equal(found.argmax(axis=1), expected.argmax(axis=1))


def test_same_weights_give_the_same_bytes(exported: Path, trained: RunFolder, tmp_path: Path) -> None:
    """Exporting again makes the same file, so that a published sha256 can be made again."""
    again = tmp_path / "again.onnx"
    export.write(export.export(trained.read_network(), trained.read_recipe()), again)
    assert again.read_bytes() == exported.read_bytes()


def test_file_is_alone_small_and_without_traces(exported: Path) -> None:
    """One file under 4 MB, weights inside, with no path of the machine that made it and no stack trace."""
    content = exported.read_bytes()
    assert len(content) < 4_000_000
    model = onnx.load_from_string(content)
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    assert str(Path(export.__file__).parent.parent).encode() not in content
    assert b"stack_trace" not in content
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]


def test_graph_has_the_published_signature(exported: Path) -> None:
    """Inputs and output have the names, types and dynamic sizes N and R of the published form."""
    graph = onnx.load(exported).graph

    def signature(value: onnx.ValueInfoProto) -> tuple[str, int, list[str | int]]:
        tensor = value.type.tensor_type
        return value.name, tensor.elem_type, [size.dim_param or size.dim_value for size in tensor.shape.dim]

    single, integer = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    assert [signature(value) for value in graph.input] == [
        ("input", single, ["N", 1, 28, 28]),
        ("sigma", single, ["R", 2]),
        ("seed", integer, ["R"]),
        ("vote", integer, ["R"]),
        ("row", integer, ["R"]),
    ]
    assert [signature(value) for value in graph.output] == [("logits", single, ["R", 10])]


def test_noise_is_six_calls_and_one_function(exported: Path, trained: RunFolder) -> None:
    """Each site is one node with all six inputs, only the first reads `row`, and the body is in the file once."""
    model = onnx.load(exported)
    nodes = [node for node in model.graph.node if (node.domain, node.op_type) == (DOMAIN, OP_TYPE)]
    attributes = [{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} for node in nodes]
    assert [found["site"] for found in attributes] == list(range(6))
    assert [found["activation"] for found in attributes] == [b"relu"] * 5 + [b"none"]
    assert all(len(node.input) == 6 and all(node.input) for node in nodes)
    assert [node.input[4] == "row" for node in nodes] == [True] + [False] * 5
    assert [(function.domain, function.name) for function in model.functions] == [(DOMAIN, OP_TYPE)]
    assert not any(node.op_type in {"BatchNormalization", "Relu"} for node in model.graph.node)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["variant"] == trained.read_recipe().variant
    assert properties["noise"] == "multiplicative"
