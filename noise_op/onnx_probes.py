"""Looks into a published file: its sites and products, and copies of it that show or silence some of them."""

import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from noisevote.noise_op.contract import DOMAIN, OP_TYPE
from noisevote.noise_op.onnx_graph import layer_name, reads, subgraphs
from noisevote.noise_op.onnx_products import AFFINE, LAYOUT, PRODUCTS, RECURRENT, UNKNOWN

Model = ModelProto  # for rooms that only hand it on
SIGMA: Final = "sigma"
# On the way from a product to its noise.
BETWEEN: Final = AFFINE | LAYOUT | {"BatchNormalization", "Concat", "Identity", "Expand", "Sum", "Split", "Squeeze"}


@dataclass(frozen=True)
class Site:
    """A noise node of a file: its number, layer and factor of sigma; one inside a loop cannot be looked at alone."""

    number: int
    layer: str
    sigma_scale: float
    in_loop: bool


def read(content: bytes) -> ModelProto:
    """The model of a file's bytes."""
    return onnx.load_model_from_string(content)


def sites_of(model: ModelProto) -> list[Site]:
    """Every site, by number; a shared one, as in a loop, once."""
    found = {}
    for node, in_loop in _noise_nodes(model.graph, in_loop=False):
        scale = _scale(model.graph, node.input[1])
        found[_number(node)] = Site(_number(node), layer_name(node).removesuffix("/noise"), scale, in_loop)
    return [found[number] for number in sorted(found)]


def declared_products(model: ModelProto) -> list[dict[str, Any]] | None:
    """What the file says of its products; None: nothing."""
    said = {each.key: each.value for each in model.metadata_props}.get("products")
    return None if said is None else list(json.loads(said))


def quiet_products(model: ModelProto) -> list[str]:
    """Names of the products on whose way to the logits no noise follows before something else is computed."""
    return [layer_name(node) for node in _quiet(model.graph, {value.name for value in model.graph.input})]


def products_of(model: ModelProto) -> int:
    """How many products depend on the input."""
    return sum(1 for _ in _products(model.graph, {value.name for value in model.graph.input}))


def exposed(model: ModelProto, numbers: Collection[int]) -> tuple[bytes, list[tuple[int, str, str]]]:
    """A copy that also gives what some sites take and make; and for each of them the names of the two.

    A ReLU inside a site is left out of the copy, so that the noise alone lies between the two.
    """
    copied = ModelProto()
    copied.CopyFrom(model)
    shown = []
    for node, in_loop in _noise_nodes(copied.graph, in_loop=False):
        if in_loop or _number(node) not in numbers:
            continue
        _without_relu(copied.graph, node)
        shown.append((_number(node), node.input[0], node.output[0]))
    known = {value.name for value in copied.graph.output}
    for name in dict.fromkeys(name for _, *pair in shown for name in pair):
        if name not in known:
            copied.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return bytes(copied.SerializeToString()), shown


@dataclass(frozen=True)
class ProductEnds:
    """A product: its operator, and the names of its two operands and its result."""

    operator: str
    left: str
    right: str
    result: str

    def accumulations(self, left: tuple[int, ...], right: tuple[int, ...], result: tuple[int, ...]) -> int:
        """Multiply-accumulates, told by the shapes of the three."""
        match self.operator:
            case "Conv":
                return math.prod(result) * math.prod(right[1:])
            case "ConvTranspose":
                return math.prod(left) * math.prod(right[1:])
            case "Einsum":
                return math.prod(result) * max(1, math.prod(right) // max(1, result[-1]))
            case "Gemm":
                return math.prod(left) * math.prod(result) // max(1, result[0])
        return math.prod(result) * left[-1]


def with_product_ends(model: ModelProto) -> tuple[bytes, list[ProductEnds]]:
    """A copy that also gives the operands and results of the products outside of loops; and which they are."""
    copied = ModelProto()
    copied.CopyFrom(model)
    inputs = {value.name for value in copied.graph.input}
    own = {name for node in copied.graph.node for name in node.output}
    found = [
        ProductEnds(node.op_type, node.input[0], node.input[1], node.output[0])
        for node in _products(copied.graph, inputs)
        if node.op_type in PRODUCTS and len(node.input) > 1 and node.output[0] in own
    ]
    known = {value.name for value in copied.graph.output}
    wanted = dict.fromkeys(name for each in found for name in (each.left, each.right, each.result))
    for name in wanted:
        if name in known:
            continue
        if name not in own:  # a weight, which is no output of a graph unless a node makes it
            same = f"{name}_as_output"
            copied.graph.node.append(helper.make_node("Identity", [name], [same]))
            copied.graph.output.append(helper.make_empty_tensor_value_info(same))
        else:
            copied.graph.output.append(helper.make_empty_tensor_value_info(name))
    shown = [
        ProductEnds(each.operator, *(_shown_as(name, own, known) for name in (each.left, each.right, each.result)))
        for each in found
    ]
    return bytes(copied.SerializeToString()), shown


def _shown_as(name: str, own: Collection[str], known: Collection[str]) -> str:
    return name if name in own or name in known else f"{name}_as_output"


def parameters_of(model: ModelProto) -> int:
    """Numbers in the float32 weights."""
    weights = [each for each in model.graph.initializer if each.data_type == TensorProto.FLOAT]
    return sum(math.prod(each.dims) for each in weights)


def fan_out_sites(model: ModelProto) -> set[int]:
    """Sites at which votes fan out: they read the rows that `row` names."""
    return {_number(node) for node, _ in _noise_nodes(model.graph, in_loop=False) if node.input[4] == "row"}


def silenced(model: ModelProto, numbers: Collection[int]) -> bytes:
    """A copy in which some sites have sigma 0."""
    copied = ModelProto()
    copied.CopyFrom(model)
    nothing, factor = "sigma_times_nothing", "nothing"
    copied.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), factor))
    copied.graph.node.insert(0, helper.make_node("Mul", [SIGMA, factor], [nothing]))
    for node, _ in _noise_nodes(copied.graph, in_loop=False):
        if _number(node) in numbers:
            node.input[1] = nothing
    return bytes(copied.SerializeToString())


def with_output(model: ModelProto, tensor: str) -> bytes | None:
    """A copy that gives one tensor alone; None: the graph has none of that name."""
    if not any(tensor in node.output for node in model.graph.node):
        return None
    copied = ModelProto()
    copied.CopyFrom(model)
    del copied.graph.output[:]
    copied.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    return bytes(copied.SerializeToString())


def in_float64(model: ModelProto, tensor: str, inputs: NDArray[np.generic], name: str) -> NDArray[np.float64] | None:
    """One tensor of a plain model, computed in float64 by onnx's reference; None where that cannot be done.

    Args:
        model: a model of float32 with one input.
        tensor: what to compute.
        inputs: what it takes, with the batch.
        name: of its input.
    """
    copied = ModelProto()
    copied.CopyFrom(model)
    for each in copied.graph.initializer:
        _widen(each)
    for node in copied.graph.node:
        for given in node.attribute:
            if given.name == "to" and given.i == TensorProto.FLOAT:
                given.i = TensorProto.DOUBLE
            if given.HasField("t"):
                _widen(given.t)
    wide = inputs.astype(np.float64) if inputs.dtype == np.float32 else inputs
    try:
        (found,) = ReferenceEvaluator(copied).run([tensor], {name: wide})
    except Exception:  # an operator that the reference knows in float32 alone, or not at all
        return None
    return found if isinstance(found, np.ndarray) and found.dtype == np.float64 else None


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def _noise_nodes(graph: GraphProto, *, in_loop: bool) -> Iterator[tuple[NodeProto, bool]]:
    for node in graph.node:
        if (node.domain, node.op_type) == (DOMAIN, OP_TYPE):
            yield node, in_loop
        for inside in subgraphs(node):
            yield from _noise_nodes(inside, in_loop=True)


def _number(node: NodeProto) -> int:
    return int(next(each.i for each in node.attribute if each.name == "site"))


def _scale(graph: GraphProto, sigma: str) -> float:
    """The factor by which a site's sigma is multiplied."""
    if sigma == SIGMA:
        return 1.0
    node = next((each for each in graph.node if sigma in each.output and each.op_type == "Mul"), None)
    constants = {each.name: each for each in graph.initializer}
    factors = [] if node is None else [constants[name] for name in node.input if name in constants]
    return float(numpy_helper.to_array(factors[0])) if factors else 1.0


def _without_relu(graph: GraphProto, node: NodeProto) -> None:
    """Take a ReLU out of a noise node, and put it behind."""
    activation = next(each for each in node.attribute if each.name == "activation")
    if activation.s != b"relu":
        return
    activation.s = b"none"
    after, place = node.output[0], next(i for i, each in enumerate(graph.node) if each.output == node.output)
    node.output[0] = f"{after}_before_relu"
    graph.node.insert(place + 1, helper.make_node("Relu", [node.output[0]], [after]))


def _products(graph: GraphProto, live: set[str]) -> Iterator[NodeProto]:
    live = set(live)
    for node in graph.node:
        if live.isdisjoint(reads(node)):
            continue
        live.update(node.output)
        if node.domain in {"", "ai.onnx"} and node.op_type in {*PRODUCTS, *RECURRENT, *UNKNOWN}:
            yield node
        for inside in subgraphs(node):
            yield from _products(inside, live | {value.name for value in inside.input})


def _quiet(graph: GraphProto, live: set[str]) -> Iterator[NodeProto]:
    bodies = [graph, *(inside for node in _walk(graph) for inside in subgraphs(node))]
    for node in _products(graph, live):
        body = next(each for each in bodies if any(other is node for other in each.node))
        if not _noise_follows(body, node.output[0]):
            yield node


def _walk(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for inside in subgraphs(node):
            yield from _walk(inside)


def _noise_follows(body: GraphProto, tensor: str) -> bool:
    """Whether on every way on from a tensor a noise node comes before anything but bias, norm and layout."""
    readers: Sequence[NodeProto] = [node for node in body.node if tensor in node.input]
    values = [node for node in readers if node.op_type not in {"Shape", "Size"}]
    if not values or any(value.name == tensor for value in body.output):
        return False
    return all(
        (node.domain, node.op_type) == (DOMAIN, OP_TYPE)
        or (node.op_type in BETWEEN and all(_noise_follows(body, name) for name in node.output))
        for node in values
    )
