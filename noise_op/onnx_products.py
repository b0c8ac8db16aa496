"""Which nodes of an ONNX graph multiply matrices, and where the noise of each belongs."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from onnx import NodeProto, TensorProto

from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.onnx_graph import OnnxGraph, layer_name, subgraphs
from noisevote.noise_op.onnx_preparation import walk

# Operators that multiply matrices, and which of their inputs may hold weights.
PRODUCTS: Final = {
    "Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1), "Einsum": (0, 1),
}  # fmt: skip
RECURRENT: Final = frozenset({"LSTM", "GRU", "RNN"})
UNKNOWN: Final = frozenset({
    "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "DeformConv", "Attention", "RotaryEmbedding", "DFT",
    "STFT", "Det",
})  # fmt: skip
SUMS: Final = frozenset({"ReduceSum", "ReduceMean"})
# What only lays a signal out otherwise, between a product and its bias.
LAYOUT: Final = frozenset({"Squeeze", "Unsqueeze", "Reshape", "Slice", "Transpose", "Flatten"})
AFFINE: Final = frozenset({"Add", "Sub", "Mul", "Div"})

Operands = Literal["weights", "signals"]


@dataclass(frozen=True)
class FoundProduct:
    """A node that multiplies matrices.

    `operands` says whether one side holds weights, or both are signals; `signal` is the tensor after bias and norm, to
    which noise belongs.
    """

    node: NodeProto
    layer: str
    operands: Operands
    signal: str


def find_products(graph: OnnxGraph) -> list[FoundProduct]:
    """Every product, in the order of computation.

    Raises:
        UninjectableError: something multiplies in a way in which noise cannot be put; names the node.
    """
    live = graph.live()
    found = []
    for node in graph.graph.node:
        if live.isdisjoint(node.output):
            continue
        _refuse(graph, node, live)
        if node.op_type in PRODUCTS:
            weighted = any(name not in live for name in node.input[: 2 if node.op_type != "Einsum" else None])
            _refuse_other_types(graph, node)
            operands: Operands = "weights" if weighted else "signals"
            found.append(FoundProduct(node, layer_name(node), operands, _signal(graph, node, live)))
    return found


def _refuse(graph: OnnxGraph, node: NodeProto, live: set[str]) -> None:
    name = layer_name(node)
    if node.op_type in RECURRENT:
        raise UninjectableError(
            f"{name}: {node.op_type} multiplies in every time step inside one operator, where no noise can be put; "
            "inject noise into the torch module instead"
        )
    if node.op_type in UNKNOWN:
        raise UninjectableError(f"{name}: {node.op_type} holds products that get no noise")
    inside = next((each for each in walk([node]) if each is not node and _multiplies(each)), None)
    if inside is not None:
        raise UninjectableError(
            f"{name}: {node.op_type} has {inside.op_type} ({layer_name(inside)}) inside, where no noise is put"
        )
    if _is_hidden_product(graph, node, live):
        raise UninjectableError(f"{name}: Mul by weights and then a sum is a product that gets no noise")


def _multiplies(node: NodeProto) -> bool:
    return node.op_type in PRODUCTS or node.op_type in RECURRENT or node.op_type in UNKNOWN


def _is_hidden_product(graph: OnnxGraph, node: NodeProto, live: set[str]) -> bool:
    """A matrix-vector product in disguise: (signal · weights) summed over an axis."""
    if node.op_type != "Mul" or subgraphs(node):
        return False
    weights = [graph.constant(name) for name in node.input if name not in live]
    if not any(each is not None and each.size > 1 for each in weights):
        return False
    return any(each.op_type in SUMS and each.input[0] == node.output[0] for each in graph.consumers(node.output[0]))


def _refuse_other_types(graph: OnnxGraph, node: NodeProto) -> None:
    for value in graph.graph.value_info:
        if value.name == node.output[0] and value.type.tensor_type.elem_type not in {0, TensorProto.FLOAT}:
            kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
            raise UninjectableError(f"{layer_name(node)}: {node.op_type} of {kind}; noise is put on float32 alone")


def _signal(graph: OnnxGraph, product: NodeProto, live: set[str]) -> str:
    """The product's result after the bias and the norm that follow it, if they do."""
    channels = _channels(graph, product)
    tensor = str(product.output[0])
    end = tensor
    node = graph.only_consumer(tensor)
    while node is not None and channels is not None:
        is_norm = node.op_type == "BatchNormalization" and node.input[0] == tensor
        if is_norm or (node.op_type in AFFINE and _by_channel(graph, node, tensor, channels, live)):
            end = tensor = node.output[0]
        elif node.op_type in LAYOUT and node.input[0] == tensor:
            tensor = node.output[0]  # part of the product only if a bias follows
        else:
            break
        node = graph.only_consumer(tensor)
    return end


def _channels(graph: OnnxGraph, product: NodeProto) -> int | None:
    if product.op_type == "Einsum":
        return None
    weights = graph.constant(product.input[1])
    if weights is None:
        return None
    match product.op_type:
        case "Conv":
            return int(weights.shape[0])
        case "ConvTranspose":
            groups = next((each.i for each in product.attribute if each.name == "group"), 1)
            return int(weights.shape[1] * groups)
        case "Gemm":
            transposed = any(each.name == "transB" and each.i for each in product.attribute)
            return int(weights.shape[0 if transposed else 1])
    return int(weights.shape[-1])


def _by_channel(graph: OnnxGraph, node: NodeProto, tensor: str, channels: int, live: set[str]) -> bool:
    """Whether a constant of one number a channel is added, or multiplied by: a bias, or a norm that is not folded."""
    if node.op_type in {"Sub", "Div"} and node.input[0] != tensor:
        return False
    others = [name for name in node.input if name != tensor]
    constant = graph.constant(others[0]) if len(others) == 1 and others[0] not in live else None
    return constant is not None and channels > 1 and math.prod(constant.shape) == channels
