import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.server_process import resident_mib
from noisevote.engine.errors import BadModelError
from noisevote.engine.feeds import Feeds
from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.engine.session_key import SessionKey
from noisevote.model_store.manifest import Manifest, Operator
from noisevote.noise_op.library import Kernel, load_kernel
from tests.support.graphs import CLASSES, SHAPE, tiny_network
from tests.support.manifests import manifest

KEY = SessionKey("tiny", "1", "mul-0.8")
CONTENT = tiny_network()


def described(**fields: Any) -> Manifest:
    """The manifest of the small network."""
    known: dict[str, Any] = {"classes": tuple(map(str, range(CLASSES))), "shape": SHAPE}
    return manifest({"mul-0.8": CONTENT}, **(known | fields))


def feeds(rows: int, inputs: int = 5) -> Feeds:
    """Rows of many requests, in no particular order."""
    rng = np.random.default_rng(rows)
    return Feeds(
        input=rng.random((inputs, *SHAPE), np.float32),
        sigma=rng.uniform(0, 1, (rows, 2)).astype(np.float32),
        seed=rng.integers(-(2**63), 2**63 - 1, rows),
        vote=rng.integers(0, 1000, rows),
        row=rng.integers(0, inputs, rows),
    )


@pytest.fixture(params=["kernel", "function body"])
def engine(request: pytest.FixtureRequest) -> OnnxEngine:
    """The engine on each implementation of the operator."""
    kernel = load_kernel()
    assert isinstance(kernel, Kernel)
    engine = OnnxEngine(kernel if request.param == "kernel" else None)
    engine.load(KEY, described(), CONTENT)
    return engine


def test_a_row_does_not_depend_on_its_batch(engine: OnnxEngine) -> None:
    """In batches of any size and any order, each row's logits are the same bits as alone."""
    together = feeds(130)
    logits = engine.run(KEY, together)
    order = np.random.default_rng(0).permutation(130)
    for size in (1, 2, 3, 5, 7, 8, 13, 64):
        for start in range(0, 130, size):
            part = order[start : start + size]
            np.testing.assert_array_equal(engine.run(KEY, together.rows(part)), logits[part])


def test_a_row_does_not_depend_on_other_inputs(engine: OnnxEngine) -> None:
    """Leaving out the inputs of other rows changes no bit."""
    together = feeds(20)
    logits = engine.run(KEY, together)
    for row in range(20):
        one = together.rows(np.array([row]))
        alone = replace(one, input=together.input[one.row], row=np.array([0]))
        np.testing.assert_array_equal(engine.run(KEY, alone)[0], logits[row])


def test_runs_at_the_same_time_do_not_touch_each_other(engine: OnnxEngine) -> None:
    """Four threads in one session give what one thread gives."""
    batches = [feeds(rows) for rows in range(1, 33)]
    expected = [engine.run(KEY, batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda batch: engine.run(KEY, batch), batches))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_both_implementations_decide_alike() -> None:
    """The same file on the kernel and on the function body: the same logits to rounding, the same votes."""
    batch = feeds(400)
    logits = []
    for kernel in (load_kernel(), None):
        engine = OnnxEngine(kernel)
        engine.load(KEY, described(), CONTENT)
        logits.append(engine.run(KEY, batch))
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(logits[0].argmax(axis=1), logits[1].argmax(axis=1))


def test_the_description_names_the_implementation() -> None:
    """The line at start tells whether the kernel runs."""
    kernel = load_kernel()
    assert kernel is not None
    assert OnnxEngine(kernel).description == f"kernel {kernel.isa}"
    assert "function body" in OnnxEngine(None).description


def other_network(change: Callable[[onnx.ModelProto], None]) -> bytes:
    """The small network, changed."""
    model = onnx.load_model_from_string(CONTENT)
    change(model)
    return bytes(model.SerializeToString())


def rename_vote(model: onnx.ModelProto) -> None:
    """Call an input by another name."""
    for node in model.graph.node:
        node.input[:] = ["votes" if name == "vote" else name for name in node.input]
    next(value for value in model.graph.input if value.name == "vote").name = "votes"


def rename_logits(model: onnx.ModelProto) -> None:
    """Call the output by another name."""
    model.graph.output[0].name = "scores"
    model.graph.node[-1].output[0] = "scores"


def fix_rows(model: onnx.ModelProto) -> None:
    """A shape that batches do not have."""
    model.graph.node.append(helper.make_node("Reshape", ["logits", "five"], ["five_rows"]))
    model.graph.initializer.append(helper.make_tensor("five", TensorProto.INT64, [2], [5, CLASSES]))


def say_version_2(model: onnx.ModelProto) -> None:
    """What a file says of its draws."""
    helper.set_model_props(model, {"operator_version": "2"})


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        (b"not ONNX", {}, "no ONNX file"),
        (CONTENT[: len(CONTENT) // 2], {}, "no ONNX file"),
        (other_network(rename_vote), {}, "inputs are .*'votes'"),
        (other_network(rename_logits), {}, r"outputs are \{'scores'"),
        (other_network(fix_rows), {}, "ONNX Runtime cannot load|inputs of shape"),
        (CONTENT, {"classes": ("a", "b")}, r"shape \[1, 10\], expected float32 of shape \[1, 2\]"),
        (CONTENT, {"shape": (1, 7, 7)}, "inputs of shape .* fails"),
        (
            CONTENT,
            {"operator": Operator(domain="noisevote", version=3)},
            "operator noisevote version 3 is not noisevote 1 or 2",
        ),
        (other_network(say_version_2), {}, "draws with operator version 2; its manifest says 1"),
    ],
)
def test_files_that_break_the_contract_are_refused(content: bytes, fields: dict[str, Any], message: str) -> None:
    """What cannot be served as the manifest says is refused when it is loaded, not when it is asked for."""
    engine = OnnxEngine(load_kernel())
    with pytest.raises(BadModelError, match=message):
        engine.load(KEY, described(**fields), content)
    with pytest.raises(KeyError):
        engine.run(KEY, feeds(1))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")
def test_tidying_gives_back_what_a_large_batch_took() -> None:
    """Timing runs larger batches than will be served; the next runs give the same bits."""
    kernel = load_kernel()
    engine = OnnxEngine(kernel)
    engine.load(KEY, described(), CONTENT)
    few, many = feeds(12), feeds(40_000)
    logits, before = engine.run(KEY, few), resident_mib(os.getpid())
    engine.run(KEY, many)
    taken = resident_mib(os.getpid()) - before
    engine.tidy()
    kept = resident_mib(os.getpid()) - before
    assert taken > 30
    assert kept < taken / 3
    np.testing.assert_array_equal(engine.run(KEY, few), logits)
    OnnxEngine(kernel).tidy()  # without a session there is nothing to give back


def test_what_is_kept_for_later_starts_is_of_one_build() -> None:
    """Another kernel, or none, is another build; the same is the same."""
    kernel = load_kernel()
    assert OnnxEngine(kernel).build == OnnxEngine(kernel).build != OnnxEngine(None).build
