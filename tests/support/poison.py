"""Models that cannot be served: each with what the refusal says of it."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from noisevote.model_store.manifest import MANIFEST_FILE, Operator
from noisevote.model_store.store import ModelStore
from tests.support.graphs import CLASSES, SHAPE, tiny_network
from tests.support.manifests import manifest

FILE: Final = "mul-0.8.onnx"
Damage = Callable[[Path], None]


@dataclass(frozen=True)
class Poison:
    """A model's content, fields of its manifest, and what is done to its folder once it is published."""

    reason: str
    content: bytes = tiny_network()
    fields: tuple[tuple[str, Any], ...] = ()
    damage: Damage | None = None

    def put(self, store: ModelStore, name: str) -> None:
        """Publish it."""
        known: dict[str, Any] = {"classes": tuple(map(str, range(CLASSES))), "shape": SHAPE}
        files = {"mul-0.8": self.content}
        store.publish(manifest(files, name, **(known | dict(self.fields))), files)
        if self.damage is not None:
            self.damage(store.root / name / "1")


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


def _one_at_a_time(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _two_rows(model: onnx.ModelProto) -> None:
    del model.graph.node[:]
    value = constant("two", np.zeros((2, CLASSES)))
    model.graph.node.append(helper.make_node("Constant", [], ["logits"], value=value))


def _rename(old: str, new: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        for value in (*model.graph.input, *model.graph.output):
            value.name = new if value.name == old else value.name

    return change


def _more_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def _long_names(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("x" * 100_000, TensorProto.FLOAT, [1]))


def _version(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def _opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def _unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[-1].op_type = "Nonsense"
    model.graph.node[-1].domain = ""


def _outside_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["beyond"], value=outside("beyond"))
    model.functions[0].node.append(node)


def _outside_sparse(model: onnx.ModelProto) -> None:
    sparse = onnx.SparseTensorProto(values=outside("sparse"), indices=constant("at", range(CLASSES), np.int64))
    sparse.dims.append(CLASSES)
    model.graph.sparse_initializer.append(sparse)


def _first_input(model: onnx.ModelProto) -> None:
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


def replaced(name: str, put: Damage) -> Damage:
    """Put something else in the place of a file."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        put(folder / name)

    return damage


def written(content: bytes, name: str = MANIFEST_FILE) -> Damage:
    """Another content."""
    return replaced(name, lambda path: _discard(path.write_bytes(content)))


def edited(**fields: Any) -> Damage:
    """A manifest with other fields; None removes one."""

    def damage(folder: Path) -> None:
        path = folder / MANIFEST_FILE
        values = json.loads(path.read_text()) | fields
        path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))

    return damage


def _discard(_: object) -> None:
    """For functions that return what nobody needs."""


def _longer(folder: Path) -> None:
    with (folder / FILE).open("ab") as file:
        file.write(b"more")


def _huge(folder: Path) -> None:
    """A sparse file of a tebibyte, and a manifest that says so."""
    with (folder / FILE).open("r+b") as file:
        file.truncate(2**40)
    values = json.loads((folder / MANIFEST_FILE).read_text())
    values["variants"][0]["bytes"] = 2**40
    (folder / MANIFEST_FILE).write_text(json.dumps(values))


def _socket(path: Path) -> None:
    with chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:  # whose addresses are short
        bound.bind(path.name)


def _truncated(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(17 * 2**20)


def _shape(*shape: int) -> Damage:
    return edited(input={"shape": shape})


FIFO, ZERO = os.mkfifo, lambda path: path.symlink_to("/dev/zero")
YES: Final = (constant("yes", True, np.bool_),)

# Those that never end by themselves.
HANGING: Final[dict[str, Poison]] = {
    "loop": Poison("longer than", through(endless(), constants=ENDLESS_CONSTANTS)),
    "loop-in-branch": Poison(
        "longer than",
        through(either(branch(endless(), output="logits")), constants=ENDLESS_CONSTANTS),
    ),
    "endless-at-start": Poison("longer than", endless_at_start()),
}

OTHERS: Final[dict[str, Poison]] = {
    # graphs
    "batch-of-one": Poison("run of 5 rows on 3 inputs .* fails", changed(_one_at_a_time)),
    "always-two-rows": Poison(r"float32 of shape \[2, 10\]", changed(_two_rows)),
    "string-logits": Poison(r"tensor\(string\)", output_type(TensorProto.STRING)),
    "double-logits": Poison(r"tensor\(double\)", output_type(TensorProto.DOUBLE)),
    "half-logits": Poison(r"tensor\(float16\)", output_type(TensorProto.FLOAT16)),
    "integer-logits": Poison(r"tensor\(int64\)", output_type(TensorProto.INT64)),
    "no-logits": Poison("outputs are", changed(_rename("logits", "scores"))),
    "no-vote": Poison("inputs are .*'votes'", changed(_rename("vote", "votes"))),
    "more-inputs": Poison("inputs are .*'more'", changed(_more_inputs)),
    "long-names": Poison("inputs are .* …$", changed(_long_names)),
    "no-bytes": Poison("ONNX", b"\0"),
    "random-bytes": Poison("no ONNX file", np.random.default_rng(0).bytes(10_000)),
    "half-a-file": Poison("no ONNX file", tiny_network()[: len(tiny_network()) // 2]),
    "other-format": Poison("no ONNX file", b"\x20\0\0\0ORTM" + bytes(1000)),
    "ir-version": Poison("ONNX Runtime cannot load it", changed(_version)),
    "opset": Poison("ONNX Runtime cannot load it", changed(_opset)),
    "unknown-operator": Poison("ONNX Runtime cannot load it", changed(_unknown_operator)),
    "nested": Poison("deeper than 100", nested(60)),
    # what they compute
    "nan-weights": Poison("not numbers", swallowed_nan()),
    "nan-values": Poison("not numbers", added(nan_values())),
    "nan-constant": Poison(
        "not numbers",
        through(
            helper.make_node("Constant", [], ["nan"], value=nan_values()),
            helper.make_node("Add", ["scores", "nan"], ["logits"]),
        ),
    ),
    "zero-by-zero": Poison(
        "not finite even without noise",
        through(
            helper.make_node("Sub", ["scores", "scores"], ["none"]),
            helper.make_node("Div", ["none", "none"], ["logits"]),
        ),
    ),
    "infinite": Poison("not finite even without noise", added(constant("much", np.full(CLASSES, np.inf)))),
    "reversed-rows": Poison(
        "beside it",
        through(
            helper.make_node("Slice", ["scores", "last", "first", "along", "back"], ["logits"]),
            constants=(
                constant("last", [-1], np.int64),
                constant("first", [-(2**31)], np.int64),
                constant("along", [0], np.int64),
                constant("back", [-1], np.int64),
            ),
        ),
    ),
    "mixed-rows": Poison(
        "beside it",
        through(
            helper.make_node("ReduceMean", ["scores", "along"], ["mean"], keepdims=1),
            helper.make_node("Sub", ["scores", "mean"], ["logits"]),
            constants=(constant("along", [0], np.int64),),
        ),
    ),
    "first-input-alone": Poison("beside it", changed(_first_input)),
    "other-classes": Poison(r"expected float32 of shape \[1, 3\]", fields=(("classes", ("a", "b", "c")),)),
    "tebibyte": Poison("fails|memory|cannot load", large(2**40)),
    "eight-gibibytes": Poison("fails|memory|cannot load", large(2**31)),
    # data elsewhere
    "outside": Poison("external data", added(outside("beyond"))),
    "outside-absolute": Poison("external data", added(outside("beyond", "/etc/passwd"))),
    "outside-branch": Poison(
        "external data",
        through(
            either(branch(helper.make_node("Add", ["scores", "b"], ["s"]), constants=(outside("b"),), output="s")),
            constants=YES,
        ),
    ),
    "outside-function": Poison("external data", changed(_outside_function)),
    "outside-constant": Poison(
        "external data",
        through(
            helper.make_node("Constant", [], ["beyond"], value=outside("beyond")),
            helper.make_node("Add", ["scores", "beyond"], ["logits"]),
        ),
    ),
    "outside-sparse": Poison("external data", changed(_outside_sparse)),
    # manifests
    "large-shape": Poison("input.shape: .* takes", damage=_shape(100_000, 100_000, 1000)),
    "larger-shape": Poison("input.shape: .* takes", damage=_shape(2**62, 2**62)),
    "largest-shape": Poison("input.shape", damage=_shape(10**400)),
    "other-shape": Poison("fails", damage=_shape(1, 7, 7)),
    "value-range": Poison(
        "beyond what float32 holds", damage=edited(input={"shape": SHAPE, "value_range": [-1e308, 1e308]})
    ),
    "operator-version": Poison(
        "operator noisevote version 2", fields=(("operator", Operator(domain="noisevote", version=2)),)
    ),
    "no-json": Poison("manifest.json: .*JSON", damage=written(b"{")),
    "no-utf8": Poison("manifest.json: ", damage=written(b"\xff\xfe{}")),
    "deep-json": Poison("manifest.json: .*recursion", damage=written(b"[" * 100_000)),
    "other-name": Poison("describes someone-else", damage=edited(name="someone-else")),
    "no-variants": Poison("manifest.json: variants", damage=edited(variants=[])),
    "file-elsewhere": Poison("manifest.json: variants.0.file", damage=lambda folder: _file_name(folder, "../x.onnx")),
    "manifest-missing": Poison("manifest.json: No such file", damage=lambda folder: (folder / MANIFEST_FILE).unlink()),
    "manifest-fifo": Poison("manifest.json: is no regular file", damage=replaced(MANIFEST_FILE, FIFO)),
    "manifest-zero": Poison("manifest.json: is no regular file", damage=replaced(MANIFEST_FILE, ZERO)),
    "manifest-long": Poison("manifest.json: holds", damage=replaced(MANIFEST_FILE, _truncated)),
    # files
    "file-fifo": Poison("is no regular file", damage=replaced(FILE, FIFO)),
    "file-zero": Poison("is no regular file", damage=replaced(FILE, ZERO)),
    "file-folder": Poison("is no regular file", damage=replaced(FILE, lambda path: path.mkdir())),
    "file-socket": Poison("No such device", damage=replaced(FILE, _socket)),
    "file-missing": Poison("No such file", damage=lambda folder: (folder / FILE).unlink()),
    "file-to-itself": Poison("symbolic links", damage=replaced(FILE, lambda path: path.symlink_to(path))),
    "file-changed": Poison("sha256 is", damage=written(b"other", FILE)),
    "file-longer": Poison("holds .* bytes, more than", damage=_longer),
    "file-huge": Poison("more memory", damage=_huge),
}  # fmt: skip
POISONS: Final = HANGING | OTHERS


def _file_name(folder: Path, name: str) -> None:
    values = json.loads((folder / MANIFEST_FILE).read_text())
    values["variants"][0]["file"] = name
    (folder / MANIFEST_FILE).write_text(json.dumps(values))


def put_all(store: ModelStore) -> Iterator[str]:
    """Publish all of them, and give their names."""
    for name, poison in POISONS.items():
        poison.put(store, name)
        yield name
