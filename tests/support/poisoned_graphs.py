"""Networks that cannot be served, made of the small one that can."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.graphs import CLASSES, tiny_network


def changed(change: Callable[[onnx.ModelProto], None]) -> bytes:
    """The small network, changed."""
    model = onnx.load_model_from_string(tiny_network())
    change(model)
    return bytes(model.SerializeToString())


def through(*nodes: onnx.NodeProto, constants: tuple[onnx.TensorProto, ...] = ()) -> bytes:
    """The small network with more behind its last node, from `scores` to `logits`."""

    def append(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = "scores"
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(constants)

    return changed(append)


def constant(name: str, value: Any, dtype: type[np.generic] = np.float32) -> onnx.TensorProto:
    """A named value."""
    return numpy_helper.from_array(np.array(value, dtype), name)


def outside(name: str, location: str = "secret.bin") -> onnx.TensorProto:
    """A tensor whose data lie in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[CLASSES])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def added(tensor: onnx.TensorProto) -> bytes:
    """The small network plus a constant."""
    return through(helper.make_node("Add", ["scores", tensor.name], ["logits"]), constants=(tensor,))


def output_type(kind: int) -> bytes:
    """Logits of another type."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = "scores"
        model.graph.node.append(helper.make_node("Cast", ["scores"], ["logits"], to=kind))
        model.graph.output[0].type.tensor_type.elem_type = kind

    return changed(change)


def one_at_a_time(model: onnx.ModelProto) -> None:
    """Inputs come one at a time."""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def two_rows(model: onnx.ModelProto) -> None:
    """Two rows of logits, whatever is asked for."""
    del model.graph.node[:]
    value = constant("two", np.zeros((2, CLASSES)))
    model.graph.node.append(helper.make_node("Constant", [], ["logits"], value=value))


def rename(old: str, new: str) -> Callable[[onnx.ModelProto], None]:
    """Call an input or output by another name."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        for value in (*model.graph.input, *model.graph.output):
            value.name = new if value.name == old else value.name

    return change


def more_inputs(model: onnx.ModelProto) -> None:
    """One more input."""
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def long_names(model: onnx.ModelProto) -> None:
    """An input whose name is very long."""
    model.graph.input.append(helper.make_tensor_value_info("x" * 100_000, TensorProto.FLOAT, [1]))


def other_ir_version(model: onnx.ModelProto) -> None:
    """A format of the future."""
    model.ir_version = 99


def other_opset(model: onnx.ModelProto) -> None:
    """Operators of the future."""
    model.opset_import[0].version = 999


def unknown_operator(model: onnx.ModelProto) -> None:
    """An operator that does not exist."""
    model.graph.node[-1].op_type = "Nonsense"
    model.graph.node[-1].domain = ""


def outside_function(model: onnx.ModelProto) -> None:
    """External data inside the function."""
    node = helper.make_node("Constant", [], ["beyond"], value=outside("beyond"))
    model.functions[0].node.append(node)


def outside_sparse(model: onnx.ModelProto) -> None:
    """External data inside a sparse tensor."""
    sparse = onnx.SparseTensorProto(values=outside("sparse"), indices=constant("at", range(CLASSES), np.int64))
    sparse.dims.append(CLASSES)
    model.graph.sparse_initializer.append(sparse)


def first_input(model: onnx.ModelProto) -> None:
    """Every row reads the first input."""
    model.graph.node.insert(0, helper.make_node("Mul", ["row", "zero"], ["first"]))
    for node in list(model.graph.node)[1:]:
        node.input[:] = ["first" if name == "row" and node.op_type != "Size" else name for name in node.input]


def branch(*nodes: onnx.NodeProto, constants: tuple[onnx.TensorProto, ...] = (), output: str) -> onnx.GraphProto:
    """A subgraph with one output."""
    found = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), output, [], [found], list(constants))


def either(then: onnx.GraphProto, condition: str = "yes") -> onnx.NodeProto:
    """A choice that is always the same."""
    other = branch(helper.make_node("Identity", ["scores"], ["same"]), output="same")
    return helper.make_node("If", [condition], ["logits"], then_branch=then, else_branch=other)


def endless() -> onnx.NodeProto:
    """A loop that adds one to the logits, 2⁶² times."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["so_far", "step"], ["further"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("so_far", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("further", TensorProto.FLOAT, None),
        ],
        [constant("step", 1.0)],
    )
    return helper.make_node("Loop", ["times", "yes", "scores"], ["logits"], body=body)


ENDLESS_CONSTANTS: Final = (constant("times", 2**62, np.int64), constant("yes", True, np.bool_))


def endless_at_start() -> bytes:
    """Work without end that depends on no input, so that ONNX Runtime may do it while it loads the file."""
    nodes = [
        helper.make_node("ConstantOfShape", ["large"], ["square"], value=constant("one_value", [1.0])),
        *(
            helper.make_node("MatMul", [first, first], [second])
            for first, second in zip(["square", *map(str, range(200))], map(str, range(201)), strict=True)
        ),
        helper.make_node("ReduceMin", ["200"], ["least"], keepdims=0),
        helper.make_node("Add", ["scores", "least"], ["logits"]),
    ]
    return through(*nodes, constants=(constant("large", [6000, 6000], np.int64),))


def large(elements: int) -> bytes:
    """A constant of so many elements in a few bytes."""
    return through(
        helper.make_node("ConstantOfShape", ["large"], ["ones"], value=constant("one_value", [1.0])),
        helper.make_node("ReduceMin", ["ones"], ["least"], keepdims=0),
        helper.make_node("Add", ["scores", "least"], ["logits"]),
        constants=(constant("large", [elements], np.int64),),
    )


def nested(depth: int) -> bytes:
    """The small network, and graphs inside graphs that no library would write."""
    inner = b""
    for number in (6, 5, 1) * depth:  # an attribute's graph, a node's attribute, a graph's node
        inner = field(number, inner)
    return tiny_network() + field(7, inner)


def field(number: int, content: bytes) -> bytes:
    """A message inside a message, as bytes."""
    length, size = b"", len(content)
    while size >= 0x80:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def nan_values() -> onnx.TensorProto:
    """Not a number, in the field that raw data usually replace."""
    return helper.make_tensor("nan", TensorProto.FLOAT, [CLASSES], [0.0] * (CLASSES - 1) + [float("nan")])


def swallowed_nan() -> bytes:
    """A network that answers confidently though its weights are no numbers."""
    return through(
        helper.make_node("Add", ["scores", "nan"], ["spoilt"]),
        helper.make_node("IsNaN", ["spoilt"], ["where"]),
        helper.make_node("Where", ["where", "eight", "spoilt"], ["logits"]),
        constants=(constant("nan", np.full(CLASSES, np.nan)), constant("eight", np.eye(CLASSES)[8])),
    )


YES: Final = (constant("yes", True, np.bool_),)
