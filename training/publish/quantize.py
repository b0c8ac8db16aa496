"""A published file in 8 bits: the same network and the same draws, several times as fast.

ONNX Runtime's own quantiser makes the products 8 bits wide, calibrated under the noise that the file is to serve;
then each noise becomes a `QuantizedNoise` node, from the bytes of one product to those that the next one reads.

Weights have 7 bits. Processors without VNNI multiply a byte by a weight and add two such products in 16 bits, which
overflow with 8; and then results would depend on the processor.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from noisevote.engine.feeds import Feeds
from noisevote.evaluation.examples import Examples
from noisevote.noise_op.contract import (
    DOMAIN,
    OP_TYPE,
    OP_VERSION,
    QUANTIZED_OP_TYPE,
    NoiseKind,
    OperatorVersion,
    sigma_row,
)
from noisevote.noise_op.function_body import gaussian_noise_function, quantized_noise_function
from noisevote.noise_op.onnx_versions import draw_with
from noisevote.training.errors import TrainingError
from noisevote.training.publish.channels_last import MICROSOFT, channels_last

PRODUCTS: Final = ("Conv", "Gemm")
QUANTIZED: Final = (*PRODUCTS, "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Reshape")
PASSES: Final = ("MaxPool", "Reshape", "Flatten")  # of bytes as of what they stand for, since quantising keeps order
LARGEST_WEIGHT: Final = 64  # 255 · 64 + 255 · 64 < 2¹⁵
CALIBRATION_INPUTS: Final = 160
CALIBRATION_VOTES: Final = 4
RUN: Final = 16  # inputs calibrated at once
# Of 99.9, 99.99, 99.999 and 100 it changes logits least under large noise. What it changes is, beside 99.99, a half for
# cifar10-cnn's mul-0.2 at sigma 0.4 and 0.4 for mnist-cnn's mul-0.9 at 1 (root mean square over 600 test images).
PERCENTILE: Final = 99.999
FIRST_SEED: Final = 2**32  # of calibration: none that a test image is measured with


class UnquantizableError(TrainingError):
    """A network cannot be computed in 8 bits as it is."""


def quantized(
    content: bytes,
    examples: Examples,
    kind: NoiseKind,
    sigmas: Sequence[float],
    metadata: Mapping[str, str],
    operator: OperatorVersion = OP_VERSION,
) -> onnx.ModelProto:
    """The 8-bit twin of a published file.

    Args:
        content: the float32 file.
        examples: training examples, of which the first are calibrated on.
        kind: noise kind while calibrating.
        sigmas: of the votes that it is calibrated on, in turns.
        metadata: what the file says about itself, in place of the same keys of its twin.
        operator: the version of the noise operator that the twin draws with.

    Raises:
        UnquantizableError: some of its noise would not lie between 8-bit signals, or a weight has more than 7 bits.
    """
    model = onnx.load_from_string(content)
    about = {entry.key: entry.value for entry in model.metadata_props} | dict(metadata)
    _refuse_other_products(model.graph)
    _name_averages(model.graph)
    _drop_unread(model.graph)
    model = _by_onnxruntime(model, _Calibration(examples.first(CALIBRATION_INPUTS), kind, sigmas))
    _fuse(model.graph)
    _refuse_floats(model.graph)
    channels_last(model)
    _clean(model, about)
    draw_with(model, operator)
    onnx.checker.check_model(model)
    return model


def _refuse_other_products(graph: onnx.GraphProto) -> None:
    """Nothing, where all noise is that of convolutions and matrices outside of loops.

    Raises:
        UnquantizableError: it is not so.
    """
    makers = {name: node.op_type for node in graph.node for name in node.output}
    for node in graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise UnquantizableError(f"{node.op_type} {node.name}: a recurrence is not computed in 8 bits")
        if (node.domain, node.op_type) == (DOMAIN, OP_TYPE) and makers.get(node.input[0]) not in PRODUCTS:
            raise UnquantizableError(f"noise on {node.input[0]!r}: it is none of a {' or '.join(PRODUCTS)}")


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Noisy votes of examples, run by run, as the quantiser reads them."""

    def __init__(self, examples: Examples, kind: NoiseKind, sigmas: Sequence[float]) -> None:
        self._runs = self._made(examples, np.array([sigma_row(kind, sigma) for sigma in sigmas], np.float32))

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        """Feeds of the next run; None after the last."""
        return next(self._runs, None)

    @staticmethod
    def _made(examples: Examples, sigmas: NDArray[np.float32]) -> Iterator[dict[str, NDArray[np.generic]]]:
        for start in range(0, len(examples), RUN):
            inputs = examples.values(slice(start, start + RUN))
            row = np.repeat(np.arange(len(inputs)), CALIBRATION_VOTES)
            vote = np.tile(np.arange(CALIBRATION_VOTES), len(inputs))
            sigma = sigmas[np.arange(len(row)) % len(sigmas)]
            yield Feeds(inputs, sigma, FIRST_SEED + start + row, vote, row).as_dict()


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Leave out the constants that no node reads any more."""
    read = {name for node in graph.node for name in node.input}
    kept = [value for value in graph.initializer if value.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _by_onnxruntime(model: onnx.ModelProto, calibration: _Calibration) -> onnx.ModelProto:
    """Products in 8 bits, weights in 7 with a scale per channel; float32 around each noise."""
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises optimisations that a published file has had
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "quantized.onnx"
            quantize_static(
                model,
                made,
                calibration,
                quant_format=QuantFormat.QOperator,
                op_types_to_quantize=list(QUANTIZED),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": PERCENTILE},
            )
            return onnx.load(made)
    finally:
        logging.root.setLevel(before)


def _name_averages(graph: onnx.GraphProto) -> None:
    """Means over height and width as GlobalAveragePool, the name under which they have an 8-bit kernel."""
    constants = _constants(graph)
    for node in graph.node:
        if node.op_type == "ReduceMean" and _attribute(node, "keepdims", 1) == 1 and len(node.input) == 2:
            axes = constants.get(node.input[1])
            if axes is not None and sorted(axes % 4) == [2, 3]:
                node.CopyFrom(helper.make_node("GlobalAveragePool", node.input[:1], node.output, node.name))


def _fuse(graph: onnx.GraphProto) -> None:
    """Make one node of each noise between bytes; the last noise gets its product's result in float32."""
    constants = _constants(graph)
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    gone: list[NodeProto] = []
    for noise in [node for node in graph.node if (node.domain, node.op_type) == (DOMAIN, OP_TYPE)]:
        before = makers.get(noise.input[0])
        if before is None or before.op_type != "DequantizeLinear":
            continue
        if noise.output[0] == "logits":
            product = makers[before.input[0]]
            if product.op_type == "QGemm":
                del product.input[-2:]  # without a scale of its own the result is float32
                product.output[0] = before.output[0]
                gone.append(before)
            continue
        after = _quantizer(noise, readers)
        if after is not None:
            _between_bytes(noise, before, after, constants)
            _rename(graph, after.output[0], after.input[0])
            gone += [before, after]
    for node in gone:
        graph.node.remove(node)


def _quantizer(noise: NodeProto, readers: Mapping[str, list[NodeProto]]) -> NodeProto | None:
    """The node that quantises a noise's output, if nothing else reads it on the way."""
    node = noise
    while True:
        following = readers.get(node.output[0], [])
        if len(following) != 1:
            return None
        (node,) = following
        if node.op_type == "QuantizeLinear":
            return node
        if node.op_type not in PASSES:
            return None


def _between_bytes(
    noise: NodeProto, before: NodeProto, after: NodeProto, constants: Mapping[str, NDArray[np.generic]]
) -> None:
    """Turn a GaussianNoise node into the QuantizedNoise that does the work of its neighbours too."""
    numbers = {
        "scale": float(constants[before.input[1]]),
        "zero_point": int(constants[before.input[2]]),
        "rate": float(np.float32(1) / np.float32(constants[after.input[1]])),
        "y_zero_point": int(constants[after.input[2]]),
        "channels_last": 0,
    }
    noise.op_type = QUANTIZED_OP_TYPE
    noise.input[0] = before.input[0]
    noise.attribute.extend(helper.make_attribute(name, value) for name, value in numbers.items())


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def _refuse_floats(graph: onnx.GraphProto) -> None:
    """Nothing, where every noise but the last lies between bytes and every weight has 7 bits.

    Raises:
        UnquantizableError: it is not so.
    """
    left = [node.name for node in graph.node if node.op_type == OP_TYPE and node.output[0] != "logits"]
    if left:
        others = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise UnquantizableError(f"{left[0]}{others}: what it reads or what reads it is not computed in 8 bits")
    constants = _constants(graph)
    for node in graph.node:
        if node.op_type not in ("QLinearConv", "QGemm"):
            continue
        if np.abs(constants[node.input[3]].astype(int)).max() > LARGEST_WEIGHT:
            raise UnquantizableError(f"{node.op_type} {node.name}: a weight has more than 7 bits")


def _clean(model: onnx.ModelProto, about: Mapping[str, str]) -> None:
    """Keep what is read: functions that nodes call, opsets of their domains, and what the file says of itself."""
    graph = model.graph
    _drop_unread(graph)
    graph.ClearField("value_info")
    del model.functions[:]
    model.functions.extend([gaussian_noise_function(), quantized_noise_function()])
    versions = {"": next(opset.version for opset in model.opset_import if opset.domain == ""), DOMAIN: OP_VERSION}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*opset) for opset in {**versions, MICROSOFT: 1}.items())
    model.producer_name, model.producer_version = "noisevote", ""
    graph.name = "noisevote"
    del model.metadata_props[:]
    helper.set_model_props(model, dict(about))


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    return {value.name: numpy_helper.to_array(value) for value in graph.initializer}


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)
