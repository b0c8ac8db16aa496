"""A small real network as an ONNX file that keeps the published graph's contract."""

import math
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from noisevote.noise_op.contract import DOMAIN, OP_TYPE, OP_VERSION
from noisevote.noise_op.function_body import OPSET, gaussian_noise_function

SHAPE = (1, 6, 6)
CLASSES = 10


@cache
def tiny_network(seed: int = 0, classes: int = CLASSES, shape: tuple[int, ...] = SHAPE) -> bytes:
    """Convolution, noise, ReLU, fully connected, noise; with random weights: [N, 1, *, *] to [R, classes]."""
    rng = np.random.default_rng(seed)
    weights = {
        "kernel": rng.normal(0, 0.5, (8, 1, 3, 3)),
        "kernel_bias": rng.normal(0, 0.1, 8),
        "matrix": rng.normal(0, 0.1, (8 * math.prod(shape), classes)),
        "matrix_bias": rng.normal(0, 0.1, classes),
    }
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    constants += [numpy_helper.from_array(np.array(value), name) for name, value in (("zero", 0), ("one", 1))]
    nodes = [
        helper.make_node("Conv", ["input", "kernel", "kernel_bias"], ["signal_0"], pads=[1, 1, 1, 1]),
        _noise("signal_0", "row", "noisy_0", site=0, activation="relu"),
        helper.make_node("Flatten", ["noisy_0"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "matrix_bias"], ["signal_1"]),
        helper.make_node("Size", ["row"], ["rows"]),
        helper.make_node("Range", ["zero", "rows", "one"], ["identity"]),
        _noise("signal_1", "identity", "logits", site=1, activation="none"),
    ]
    return _published(nodes, constants, shape, classes)


@cache
def wide_network(channels: int = 64, side: int = 64) -> bytes:
    """Few weights and a large signal: a convolution to [channels, side, side] with noise, its mean of each channel."""
    kernel = np.random.default_rng(0).normal(0, 0.5, (channels, 1, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["signal"], pads=[1, 1, 1, 1]),
        _noise("signal", "row", "noisy", site=0, activation="relu"),
        helper.make_node("GlobalAveragePool", ["noisy"], ["means"]),
        helper.make_node("Flatten", ["means"], ["logits"]),
    ]
    constants = [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(np.array(0), "zero")]
    return _published(nodes, constants, (1, side, side), channels)


def _published(
    nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], shape: tuple[int, ...], classes: int
) -> bytes:
    """The file of a graph, with the inputs and the output of a published one."""
    rows = ["R"]
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *shape]),
        helper.make_tensor_value_info("sigma", TensorProto.FLOAT, ["R", 2]),
        *(helper.make_tensor_value_info(name, TensorProto.INT64, rows) for name in ("seed", "vote", "row")),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["R", classes])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(
        graph,
        functions=[gaussian_noise_function()],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, OP_VERSION)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _noise(signal: str, row: str, output: str, *, site: int, activation: str) -> onnx.NodeProto:
    inputs = [signal, "sigma", "seed", "vote", row, "zero"]
    return helper.make_node(OP_TYPE, inputs, [output], domain=DOMAIN, site=site, activation=activation)
