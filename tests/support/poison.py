"""Models that cannot be served: each with what the refusal says of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper

from noisevote.model_store.manifest import MANIFEST_FILE, Operator
from noisevote.model_store.store import ModelStore
from tests.support import poisoned_folders as damages
from tests.support import poisoned_graphs as graphs
from tests.support.graphs import CLASSES, SHAPE, tiny_network
from tests.support.manifests import manifest
from tests.support.poisoned_folders import FILE, Damage, edited, replaced, written
from tests.support.poisoned_graphs import added, changed, constant, output_type, outside, through


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


# Those that never end by themselves.
HANGING: Final[dict[str, Poison]] = {
    "loop": Poison("longer than", through(graphs.endless(), constants=graphs.ENDLESS_CONSTANTS)),
    "loop-in-branch": Poison(
        "longer than",
        through(graphs.either(graphs.branch(graphs.endless(), output="logits")), constants=graphs.ENDLESS_CONSTANTS),
    ),
    "endless-at-start": Poison("longer than", graphs.endless_at_start()),
}

OTHERS: Final[dict[str, Poison]] = {
    # graphs
    "batch-of-one": Poison("run of 5 rows on 3 inputs .* fails", changed(graphs.one_at_a_time)),
    "always-two-rows": Poison(r"float32 of shape \[2, 10\]", changed(graphs.two_rows)),
    "string-logits": Poison(r"tensor\(string\)", output_type(TensorProto.STRING)),
    "double-logits": Poison(r"tensor\(double\)", output_type(TensorProto.DOUBLE)),
    "half-logits": Poison(r"tensor\(float16\)", output_type(TensorProto.FLOAT16)),
    "integer-logits": Poison(r"tensor\(int64\)", output_type(TensorProto.INT64)),
    "no-logits": Poison("outputs are", changed(graphs.rename("logits", "scores"))),
    "no-vote": Poison("inputs are .*'votes'", changed(graphs.rename("vote", "votes"))),
    "more-inputs": Poison("inputs are .*'more'", changed(graphs.more_inputs)),
    "long-names": Poison("inputs are .* …$", changed(graphs.long_names)),
    "no-bytes": Poison("ONNX", b"\0"),
    "random-bytes": Poison("no ONNX file", np.random.default_rng(0).bytes(10_000)),
    "half-a-file": Poison("no ONNX file", tiny_network()[: len(tiny_network()) // 2]),
    "other-format": Poison("no ONNX file", b"\x20\0\0\0ORTM" + bytes(1000)),
    "ir-version": Poison("ONNX Runtime cannot load it", changed(graphs.other_ir_version)),
    "opset": Poison("ONNX Runtime cannot load it", changed(graphs.other_opset)),
    "unknown-operator": Poison("ONNX Runtime cannot load it", changed(graphs.unknown_operator)),
    "nested": Poison("deeper than 100", graphs.nested(60)),
    # what they compute
    "nan-weights": Poison("not numbers", graphs.swallowed_nan()),
    "nan-values": Poison("not numbers", added(graphs.nan_values())),
    "nan-constant": Poison(
        "not numbers",
        through(
            helper.make_node("Constant", [], ["nan"], value=graphs.nan_values()),
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
    "first-input-alone": Poison("beside it", changed(graphs.first_input)),
    "other-classes": Poison(r"expected float32 of shape \[1, 3\]", fields=(("classes", ("a", "b", "c")),)),
    "tebibyte": Poison("fails|memory|cannot load", graphs.large(2**40)),
    "eight-gibibytes": Poison("fails|memory|cannot load", graphs.large(2**31)),
    # data elsewhere
    "outside": Poison("external data", added(outside("beyond"))),
    "outside-absolute": Poison("external data", added(outside("beyond", "/etc/passwd"))),
    "outside-branch": Poison(
        "external data",
        through(
            graphs.either(
                graphs.branch(helper.make_node("Add", ["scores", "b"], ["s"]), constants=(outside("b"),), output="s")
            ),
            constants=graphs.YES,
        ),
    ),
    "outside-function": Poison("external data", changed(graphs.outside_function)),
    "outside-constant": Poison(
        "external data",
        through(
            helper.make_node("Constant", [], ["beyond"], value=outside("beyond")),
            helper.make_node("Add", ["scores", "beyond"], ["logits"]),
        ),
    ),
    "outside-sparse": Poison("external data", changed(graphs.outside_sparse)),
    # manifests
    "large-shape": Poison("input.shape: .* takes", damage=damages.other_shape(100_000, 100_000, 1000)),
    "larger-shape": Poison("input.shape: .* takes", damage=damages.other_shape(2**62, 2**62)),
    "largest-shape": Poison("input.shape", damage=damages.other_shape(10**400)),
    "other-shape": Poison("fails", damage=damages.other_shape(1, 7, 7)),
    "value-range": Poison(
        "beyond what float32 holds", damage=edited(input={"shape": SHAPE, "value_range": [-1e308, 1e308]})
    ),
    "operator-version": Poison(
        "operator noisevote version 3", fields=(("operator", Operator(domain="noisevote", version=3)),)
    ),
    "no-json": Poison("manifest.json: .*JSON", damage=written(b"{")),
    "no-utf8": Poison("manifest.json: ", damage=written(b"\xff\xfe{}")),
    "deep-json": Poison("manifest.json: .*recursion", damage=written(b"[" * 100_000)),
    "other-name": Poison("describes someone-else", damage=edited(name="someone-else")),
    "no-variants": Poison("manifest.json: variants", damage=edited(variants=[])),
    "file-elsewhere": Poison("manifest.json: variants.0.file", damage=damages.file_name("../x.onnx")),
    "manifest-missing": Poison("manifest.json: No such file", damage=lambda folder: (folder / MANIFEST_FILE).unlink()),
    "manifest-fifo": Poison("manifest.json: is no regular file", damage=replaced(MANIFEST_FILE, damages.fifo)),
    "manifest-zero": Poison("manifest.json: is no regular file", damage=replaced(MANIFEST_FILE, damages.endless)),
    "manifest-long": Poison("manifest.json: holds", damage=replaced(MANIFEST_FILE, damages.zeros)),
    # files
    "file-fifo": Poison("is no regular file", damage=replaced(FILE, damages.fifo)),
    "file-zero": Poison("is no regular file", damage=replaced(FILE, damages.endless)),
    "file-folder": Poison("is no regular file", damage=replaced(FILE, lambda path: path.mkdir())),
    "file-socket": Poison("No such device", damage=replaced(FILE, damages.socket_at)),
    "file-missing": Poison("No such file", damage=lambda folder: (folder / FILE).unlink()),
    "file-to-itself": Poison("symbolic links", damage=replaced(FILE, lambda path: path.symlink_to(path))),
    "file-changed": Poison("sha256 is", damage=written(b"other", FILE)),
    "file-damages.longer": Poison("holds .* bytes, more than", damage=damages.longer),
    "file-damages.huge": Poison("more memory", damage=damages.huge),
}  # fmt: skip
POISONS: Final = HANGING | OTHERS


def put_all(store: ModelStore) -> Iterator[str]:
    """Publish all of them, and give their names."""
    for name, poison in POISONS.items():
        poison.put(store, name)
        yield name
