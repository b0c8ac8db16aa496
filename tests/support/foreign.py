"""Small foreign classifiers as ONNX files: networks that know nothing of noise."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

SHAPE = (3, 8, 8)
CLASSES = 5


def model(
    nodes: Sequence[NodeProto],
    weights: dict[str, NDArray[np.generic]],
    *,
    shape: Sequence[int | str] = ("N", *SHAPE),
    outputs: Sequence[str] = ("out",),
    opset: int = 17,
    element: int = TensorProto.FLOAT,
    more_inputs: Sequence[str] = (),
    rank: int = 2,
) -> ModelProto:
    """A model of these nodes, with input `x`."""
    inputs = [helper.make_tensor_value_info("x", element, list(shape))]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 6]) for name in more_inputs]
    sizes = ["N", *(f"size_{axis}" for axis in range(1, rank))]
    graph = helper.make_graph(
        list(nodes), "foreign", inputs,
        [helper.make_tensor_value_info(each, TensorProto.FLOAT, sizes) for each in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def weights(seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Of `network`."""
    rng = np.random.default_rng(seed)
    values = {
        "kernel": rng.normal(0, 0.4, (6, 3, 3, 3)), "scale": rng.uniform(0.5, 2, 6), "shift": rng.normal(0, 0.3, 6),
        "mean": rng.normal(0, 0.3, 6), "variance": rng.uniform(0.5, 2, 6), "kernel_2": rng.normal(0, 0.3, (4, 6, 3, 3)),
        "bias_2": rng.normal(0, 0.3, 4), "matrix": rng.normal(0, 0.2, (4 * 64, CLASSES)),
        "bias": rng.normal(0, 0.3, CLASSES),
    }  # fmt: skip
    return {name: value.astype(np.float32) for name, value in values.items()}


def network(*tail: NodeProto, **options: Any) -> ModelProto:
    """Conv – BatchNorm – ReLU – Conv – MatMul – Add, and what follows `logits` (else it is the output)."""
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c1"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"], epsilon=1e-3),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("Conv", ["r1", "kernel_2", "bias_2"], ["c2"], name="body", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c2"], ["s2"]),
        helper.make_node("Mul", ["c2", "s2"], ["silu"]),
        helper.make_node("Flatten", ["silu"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["m"], name="head"),
        helper.make_node("Add", ["m", "bias"], ["logits" if tail else "out"]),
        *tail,
    ]
    return model(nodes, weights() | options.pop("more", {}), **options)


def softmax(opset: int = 17) -> ModelProto:
    """The network with a softmax at its end."""
    return network(helper.make_node("Softmax", ["logits"], ["out"]), opset=opset)
