"""Makes of any ONNX file a plain graph of opset 21, or refuses it by name."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper, shape_inference, version_converter

from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.function_body import OPSET
from noisevote.noise_op.onnx_graph import STANDARD, OnnxGraph, attribute, element_type, layer_name, subgraphs

IR_VERSION: Final = 10
MOST_BYTES: Final = 2**31 - 1  # of a file that holds its weights, a Protocol Buffers message
RANDOM: Final = frozenset({
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial",
})  # fmt: skip
INPUT_TYPES: Final = frozenset({
    TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.INT8, TensorProto.BOOL,
})  # fmt: skip


@dataclass(frozen=True)
class SourceInput:
    """The one input of a foreign graph: its name, element type (of `TensorProto`) and sizes but that of the batch."""

    name: str
    element: int
    shape: tuple[int, ...]
    batch: int | None


def load(file: Path) -> ModelProto:
    """Read an ONNX file, with data that lie beside it.

    Raises:
        UninjectableError: it is none, or too large for one file.
    """
    try:
        model = onnx.load(file)
    except Exception as error:  # of Protocol Buffers, onnx and the file system
        raise UninjectableError(f"{file}: is no ONNX file that can be read ({error})") from error
    if not model.graph.node:
        raise UninjectableError(f"{file}: is no ONNX file with a graph")
    if model.ByteSize() > MOST_BYTES:
        raise UninjectableError(f"{file}: {model.ByteSize()} bytes with its weights; one file holds {MOST_BYTES}")
    return model


def prepare(source: ModelProto, shape: Sequence[int] | None) -> tuple[OnnxGraph, SourceInput]:
    """A copy with one input of known sizes, opset 21, constants as initializers, and no local functions.

    Args:
        source: the model, which is not changed.
        shape: of one input, as the model takes it; needed where the file leaves sizes open.

    Raises:
        UninjectableError: something in it is not supported; the message names the node and the reason.
    """
    model = inliner.inline_local_functions(source) if source.functions else _copy(source)
    _drop_initializers_among_inputs(model)
    _refuse_unknown_domains(model)
    graph = OnnxGraph(_upgraded(model))
    taken = _with_sizes(graph, shape)
    _constants_to_initializers(graph)
    _drop_identities(graph)
    refuse_random(graph)
    graph.prune()
    _clean(graph)
    return graph, taken


def refuse_random(graph: OnnxGraph) -> None:
    """Refuse what is drawn anew in each run, or depends on the batch.

    Raises:
        UninjectableError: naming the node.
    """
    for node in walk(graph.graph.node):
        if node.op_type in RANDOM:
            raise UninjectableError(f"{layer_name(node)}: {node.op_type} draws at random in every run")
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            mode = graph.constant(node.input[2])
            if mode is None or mode.any():
                raise UninjectableError(f"{layer_name(node)}: Dropout is active; export the model for evaluation")
        if node.op_type == "BatchNormalization" and attribute(node, "training_mode", 0):
            raise UninjectableError(
                f"{layer_name(node)}: BatchNormalization takes the batch's statistics; export the model for evaluation"
            )


def walk(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    """Every node, those of subgraphs too."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from walk(graph.node)


def _copy(model: ModelProto) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(model)
    return copied


def _drop_initializers_among_inputs(model: ModelProto) -> None:
    """Files of IR version 3 list every weight as an input too."""
    weights = {each.name for each in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _refuse_unknown_domains(model: ModelProto) -> None:
    for node in walk(model.graph.node):
        if node.domain not in STANDARD:
            raise UninjectableError(
                f"{layer_name(node)}: {node.domain}.{node.op_type} is no standard operator; what it multiplies is "
                "not known, so it could be left without noise"
            )


def _upgraded(model: ModelProto) -> ModelProto:
    """In opset 21, in which the function body is written: a file has one version for both."""
    version = next((each.version for each in model.opset_import if each.domain in STANDARD), 1)
    kept = [each for each in model.opset_import if each.domain in STANDARD]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    if version != OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:  # of the converter, which has none of its own
            raise UninjectableError(f"opset {version} cannot be converted to {OPSET}: {error}") from error
    model.ir_version = IR_VERSION
    return model


def _with_sizes(graph: OnnxGraph, shape: Sequence[int] | None) -> SourceInput:
    """Give the input its sizes, and infer those of the other tensors."""
    inputs = list(graph.graph.input)
    names = ", ".join(value.name for value in inputs)
    if len(inputs) != 1:
        stateful = len(inputs) > 1 and len(graph.graph.output) > 1
        reason = "it carries a state from run to run, and votes are independent" if stateful else "one is needed"
        raise UninjectableError(f"inputs {names}: the model takes {len(inputs)} inputs; {reason}")
    (value,) = inputs
    kind = value.type.tensor_type
    if kind.elem_type not in INPUT_TYPES:
        raise UninjectableError(f"input {value.name}: {element_type(kind.elem_type)} is not taken")
    found = [each.dim_value if each.dim_value > 0 else None for each in kind.shape.dim]
    if not found:
        raise UninjectableError(f"input {value.name}: has no dimension for the batch")
    sizes = _sizes(value.name, found[1:], shape)
    del kind.shape.dim[:]
    for size in ("N", *sizes):
        kind.shape.dim.add(**({"dim_param": size} if isinstance(size, str) else {"dim_value": size}))
    _infer(graph)
    return SourceInput(value.name, kind.elem_type, sizes, found[0])


def _sizes(name: str, found: Sequence[int | None], shape: Sequence[int] | None) -> tuple[int, ...]:
    told = "x".join("?" if size is None else str(size) for size in found)
    if shape is None:
        if None in found:
            raise UninjectableError(f"input {name}: the file leaves sizes open ({told}); give them (--shape)")
        return tuple(size for size in found if size is not None)
    fits = len(shape) == len(found) and all(a is None or a == b for a, b in zip(found, shape, strict=True))
    if not fits:
        raise UninjectableError(f"input {name}: shape {'x'.join(map(str, shape))} does not fit the file's {told}")
    return tuple(shape)


def _infer(graph: OnnxGraph) -> None:
    graph.graph.ClearField("value_info")
    for value in graph.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inferred = shape_inference.infer_shapes(graph.model, data_prop=True)
    except Exception as error:  # of the inference, which has none of its own
        raise UninjectableError(f"its shapes contradict one another: {error}") from error
    graph.model.CopyFrom(inferred)
    graph.graph = graph.model.graph


def _constants_to_initializers(graph: OnnxGraph) -> None:
    for node in list(graph.graph.node):
        if node.op_type == "Constant" and (value := _constant_value(node)) is not None:
            graph.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
            graph.remove(node)


def _constant_value(node: NodeProto) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for each in node.attribute:
        if each.name == "value":
            return numpy_helper.to_array(each.t)
        if each.name in kinds:
            return np.array(helper.get_attribute_value(each), kinds[each.name])
    return None


def _drop_identities(graph: OnnxGraph) -> None:
    """Take out what hands its input on, so that one sees what follows a product."""
    for node in list(graph.graph.node):
        if node.op_type not in {"Identity", "Dropout"} or node.output[0] in graph.outputs:
            continue
        if node.op_type == "Dropout" and (len(node.input) > 2 or len(node.output) > 1):
            continue
        graph.read_instead(node.output[0], node.input[0])
        graph.remove(node)


def _clean(graph: OnnxGraph) -> None:
    """Take out notes of whoever exported it, so that the file depends on the network alone."""
    for noted in (*graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    graph.model.ClearField("metadata_props")
    graph.model.ClearField("training_info")
    for field in ("doc_string", "domain", "model_version", "producer_name", "producer_version"):
        graph.model.ClearField(field)
    graph.graph.ClearField("doc_string")
    graph.graph.ClearField("metadata_props")
