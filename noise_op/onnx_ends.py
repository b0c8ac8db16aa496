"""The two ends of a published graph: what a foreign graph takes, and the logits inside what it gives."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from onnx import NodeProto, TensorProto, helper

from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.onnx_graph import OnnxGraph, attribute, layer_name
from noisevote.noise_op.onnx_preparation import SourceInput

INPUT: Final = "input"
SIGMA, SEED, VOTE, ROW = "sigma", "seed", "vote", "row"
OUTPUT: Final = "logits"
IMAGE_CHANNELS: Final = (1, 3)

Head = Literal["none", "softmax", "log_softmax", "sigmoid"]
Layout = Literal["as given", "channels last"]
LAYOUT: Final = frozenset({"Identity", "Reshape", "Flatten", "Squeeze"})
# What hands values on, so that one looks through it from a softmax back to its logits.
THROUGH: Final = frozenset({"Reshape", "Expand", "Squeeze", "Unsqueeze", "Identity", "Cast", "Max", "Tile"})


@dataclass(frozen=True)
class Outcome:
    """Where the logits are: `tensor` of the foreign graph, before the `head` that was cut off."""

    tensor: str
    head: Head


def find_logits(graph: OnnxGraph, wanted: str | None) -> Outcome:
    """The tensor before the final softmax or sigmoid.

    Raises:
        UninjectableError: there are several outputs and none is `wanted`.
    """
    outputs = graph.outputs
    if wanted is not None and wanted not in outputs:
        raise UninjectableError(f"output {wanted}: is none of the model's: {', '.join(outputs)}")
    if wanted is None and len(outputs) != 1:
        raise UninjectableError(f"outputs {', '.join(outputs)}: a classifier has one; say which (--output)")
    output = wanted or outputs[0]
    tensor = _behind_layout(graph, output)
    node = graph.producer(tensor)
    if node is None:
        return Outcome(output, "none")
    match node.op_type:
        case "Softmax" | "LogSoftmax":
            _refuse_other_axis(graph, node)
            return Outcome(_before_flattening(graph, node), "softmax" if node.op_type == "Softmax" else "log_softmax")
        case "Sigmoid":
            return Outcome(str(node.input[0]), "sigmoid")
    inside = _of_written_out_softmax(graph, node)
    return Outcome(output, "none") if inside is None else Outcome(inside, "softmax")


def _behind_layout(graph: OnnxGraph, tensor: str) -> str:
    """The tensor whose values an output has, laid out otherwise."""
    node = graph.producer(tensor)
    while node is not None and node.op_type in LAYOUT:
        tensor = node.input[0]
        node = graph.producer(tensor)
    return tensor


def _before_flattening(graph: OnnxGraph, softmax: NodeProto) -> str:
    """What a softmax reads, before the flattening that comes with the upgrade from opset 12."""
    node = graph.producer(softmax.input[0])
    return str(node.input[0] if node is not None and node.op_type == "Flatten" else softmax.input[0])


def _refuse_other_axis(graph: OnnxGraph, node: NodeProto) -> None:
    sizes = shape_of(graph, node.output[0])
    axis = attribute(node, "axis", -1)
    if sizes is not None and len(sizes) > 1 and axis not in {-1, 1, len(sizes) - 1}:
        raise UninjectableError(f"{layer_name(node)}: {node.op_type} over axis {axis:g}, which is none of classes")


def _of_written_out_softmax(graph: OnnxGraph, node: NodeProto) -> str | None:
    """The logits of exp(x − max x) ÷ Σ exp(x − max x), as some exporters write a softmax; None: it is none."""
    if node.op_type != "Div":
        return None
    exponential, total = graph.producer(node.input[0]), _behind(graph, node.input[1])
    if exponential is None or exponential.op_type != "Exp" or total is None or total.op_type != "ReduceSum":
        return None
    if total.input[0] != exponential.output[0]:
        return None
    shifted = graph.producer(exponential.input[0])
    if shifted is None or shifted.op_type != "Sub":
        return str(exponential.input[0])
    largest = _behind(graph, shifted.input[1])
    same = largest is not None and largest.op_type == "ReduceMax" and largest.input[0] == shifted.input[0]
    return str(shifted.input[0]) if same else None


def _behind(graph: OnnxGraph, tensor: str) -> NodeProto | None:
    """The node that a tensor's values come from, through what only hands them on."""
    node = graph.producer(tensor)
    while node is not None and node.op_type in THROUGH:
        before = (graph.producer(name) for name in node.input if graph.constant(name) is None)
        node = next((each for each in before if each is not None and each.op_type != "Cast"), None)
    return node


def shape_of(graph: OnnxGraph, tensor: str) -> tuple[int | None, ...] | None:
    """Inferred sizes of a tensor; None where they are not known."""
    for value in (*graph.graph.value_info, *graph.graph.output, *graph.graph.input):
        if value.name == tensor and value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            return tuple(each.dim_value if each.HasField("dim_value") else None for each in dims)
    return None


def is_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether these are height, width and channels of an image."""
    return len(shape) == 3 and shape[2] in IMAGE_CHANNELS and shape[0] not in IMAGE_CHANNELS


def put_input(graph: OnnxGraph, taken: SourceInput) -> tuple[int, ...]:
    """Make the graph take `input`, float32 and images with channels first; returns its shape without the batch."""
    current, shape = taken.name, taken.shape
    if taken.element != TensorProto.FLOAT:
        whole = graph.fresh(f"{INPUT}_as_given")
        graph.read_instead(current, whole)
        graph.insert(helper.make_node("Cast", [current], [whole], name="input as integers", to=taken.element), None)
    if is_channels_last(shape):
        last = graph.fresh(f"{INPUT}_channels_last")
        graph.read_instead(current, last)
        node = helper.make_node("Transpose", [current], [last], name="input channels last", perm=[0, 2, 3, 1])
        graph.insert(node, None)
        shape = (shape[2], shape[0], shape[1])
    graph.read_instead(current, INPUT)
    del graph.graph.input[:]
    graph.graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", *shape]))
    graph.graph.input.append(helper.make_tensor_value_info(SIGMA, TensorProto.FLOAT, ["R", 2]))
    for name in (SEED, VOTE, ROW):
        graph.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["R"]))
    return shape


def put_output(graph: OnnxGraph, outcome: Outcome) -> None:
    """Make the graph give `logits` [R, classes]: of a single sigmoid, 0 and its logit."""
    tensor = outcome.tensor
    flat = graph.fresh(f"{OUTPUT}_flat")
    nodes = [helper.make_node("Flatten", [tensor], [flat], name="logits as rows", axis=1)]
    if outcome.head == "sigmoid":
        zero, zeros = graph.add_constant("zero_logit", np.zeros(1, np.float32)), graph.fresh("zero_logits")
        nodes.append(helper.make_node("Mul", [flat, zero], [zeros], name="logit of no"))
        nodes.append(helper.make_node("Concat", [zeros, flat], [OUTPUT], name="logits of no and yes", axis=1))
    else:
        nodes[0].output[0] = OUTPUT
    graph.graph.node.extend(nodes)
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["R", None]))


def refuse_no_classifier(graph: OnnxGraph, outcome: Outcome) -> None:
    """Do nothing for the logits of one class out of several.

    Raises:
        UninjectableError: it is a regression, a segmentation or has several labels; said by name.
    """
    sizes = shape_of(graph, outcome.tensor)
    if sizes is None:
        return  # the gate counts what comes out
    told = "×".join("?" if size is None else str(size) for size in sizes[1:])
    if len([size for size in sizes[1:] if size != 1]) > 1:
        raise UninjectableError(
            f"output {outcome.tensor}: {told} values an input are no logits of one class (segmentation, detection or "
            "a sequence of classes); only classifiers are served"
        )
    values = max((size or 0 for size in sizes[1:]), default=1)
    if outcome.head == "sigmoid" and values > 1:
        raise UninjectableError(f"output {outcome.tensor}: {values} sigmoids are several labels; one class is decided")
    if outcome.head != "sigmoid" and values == 1 and None not in sizes[1:]:
        raise UninjectableError(f"output {outcome.tensor}: one value without a sigmoid is a regression")
