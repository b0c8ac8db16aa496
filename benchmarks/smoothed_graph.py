"""A convolutional network with additive noise at its input alone, in the size of those that certify on MNIST."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from noisevote.noise_op.contract import DOMAIN, OP_TYPE, OP_VERSION
from noisevote.noise_op.function_body import OPSET, gaussian_noise_function

SHAPE = (1, 28, 28)
CLASSES = 10
# Weights, biases left out: two convolutions of 5×5, each halved by pooling, and two products.
WEIGHTS = {"conv_0": (32, 1, 5, 5), "conv_1": (64, 32, 5, 5), "full_0": (3136, 1024), "full_1": (1024, CLASSES)}


def smoothed_graph(seed: int = 0) -> bytes:
    """The file, with random weights: time does not depend on them, and votes need not agree."""
    rng = np.random.default_rng(seed)
    constants = [
        numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name)
        for name, shape in WEIGHTS.items()
    ]
    constants.append(numpy_helper.from_array(np.array(0), "zero"))
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *SHAPE]),
        helper.make_tensor_value_info("sigma", TensorProto.FLOAT, ["R", 2]),
        *(helper.make_tensor_value_info(name, TensorProto.INT64, ["R"]) for name in ("seed", "vote", "row")),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["R", CLASSES])]
    model = helper.make_model(
        helper.make_graph(_nodes(), "smoothed", inputs, outputs, constants),
        functions=[gaussian_noise_function()],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, OP_VERSION)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _nodes() -> list[onnx.NodeProto]:
    names = ["input", "sigma", "seed", "vote", "row", "zero"]
    nodes = [helper.make_node(OP_TYPE, names, ["signal"], domain=DOMAIN, site=0, activation="none")]
    last = "signal"
    for layer in ("conv_0", "conv_1"):
        nodes += [
            helper.make_node("Conv", [last, layer], [f"{layer}_sum"], pads=[2, 2, 2, 2]),
            helper.make_node("Relu", [f"{layer}_sum"], [f"{layer}_act"]),
            helper.make_node("MaxPool", [f"{layer}_act"], [f"{layer}_out"], kernel_shape=[2, 2], strides=[2, 2]),
        ]
        last = f"{layer}_out"
    return [
        *nodes,
        helper.make_node("Flatten", [last], ["flat"]),
        helper.make_node("MatMul", ["flat", "full_0"], ["hidden_sum"]),
        helper.make_node("Relu", ["hidden_sum"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "full_1"], ["logits"]),
    ]
