"""A published graph with our noise, against itself without noise and with RandomNormalLike.

The rivals are the same file with each GaussianNoise node replaced by standard operators, so that weights,
shapes and the fan-out over votes stay what they are.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, helper

from benchmarks.timing import in_turns
from noisevote.noise_op.contract import DOMAIN, OP_TYPE
from noisevote.noise_op.library import Kernel

SIGMA = 1.0
ROUNDS = 30

Arrays = dict[str, NDArray[Any]]
Replace = Callable[[NodeProto, str], list[NodeProto]]


def measure(file: bytes, kernel: Kernel, inputs: int, votes: int, threads: int) -> dict[str, float]:
    """Milliseconds a batch of each graph, their ratios, and votes per second of ours."""
    model = onnx.load_from_string(file)
    sessions = {
        "our noise, kernel": session_of(file, threads, kernel),
        "our noise, function body": session_of(file, threads),
        "no noise": session_of(_without(model, _noiseless), threads),
        "RandomNormalLike": session_of(_without(model, _random_normal_like), threads),
    }
    batch = feeds(sessions["our noise, kernel"], inputs, votes)
    timings = in_turns({name: running(session, batch) for name, session in sessions.items()}, ROUNDS)
    figures = {f"{name} (ms)": timings.median(name) * 1e3 for name in sessions}
    ours = "our noise, kernel"
    figures["our noise, kernel ÷ no noise"] = timings.ratio(ours, "no noise")
    figures["RandomNormalLike ÷ our noise, kernel"] = timings.ratio("RandomNormalLike", ours)
    figures["our noise, function body ÷ our noise, kernel"] = timings.ratio("our noise, function body", ours)
    figures["votes per second"] = inputs * votes / timings.median(ours)
    return figures


def noiseless(file: bytes) -> bytes:
    """The file without its noise."""
    return _without(onnx.load_from_string(file), _noiseless)


def session_of(model: bytes, threads: int, kernel: Kernel | None = None) -> onnxruntime.InferenceSession:
    """A session as the service makes it, but for the number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if kernel is not None:
        kernel.register(options)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def running(session: onnxruntime.InferenceSession, batch: Arrays) -> Callable[[], object]:
    """One run of the session on what it uses of the batch."""
    wanted = {value.name for value in session.get_inputs()}
    used = {name: value for name, value in batch.items() if name in wanted}
    return lambda: session.run(["logits"], used)


def feeds(session: onnxruntime.InferenceSession, inputs: int, votes: int) -> Arrays:
    """A batch of random inputs, each with so many votes, multiplicative noise at sigma 1."""
    shape = session.get_inputs()[0].shape[1:]
    rows = inputs * votes
    return {
        "input": np.random.default_rng(0).random((inputs, *shape), dtype=np.float32),
        "sigma": np.tile(np.array([SIGMA, 0], np.float32), (rows, 1)),
        "seed": np.repeat(np.arange(inputs), votes),
        "vote": np.tile(np.arange(votes), inputs),
        "row": np.repeat(np.arange(inputs), votes),
    }


def with_random_normal_like(file: bytes, sigma: float) -> bytes:
    """A published file as one writes it with what ONNX offers: multiplicative noise of a fixed sigma, without seeds."""
    model = onnx.load_from_string(_without(onnx.load_from_string(file), partial(_random_normal_like, sigma=sigma)))
    read = {value.name for value in model.graph.output}
    for node in list(model.graph.node)[::-1]:  # what only our noise read has no reader any more
        if read.isdisjoint(node.output):
            model.graph.node.remove(node)
        else:
            read.update(node.input)
    for unread in [value for value in model.graph.input if value.name not in read]:
        model.graph.input.remove(unread)
    for weights in [each for each in model.graph.initializer if each.name not in read]:
        model.graph.initializer.remove(weights)
    return bytes(model.SerializeToString())


def _without(model: onnx.ModelProto, replace: Replace) -> bytes:
    """The model with every GaussianNoise node rewritten."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.functions[:]
    _rewrite(changed.graph, replace)
    return bytes(changed.SerializeToString())


def _rewrite(graph: onnx.GraphProto, replace: Replace) -> None:
    """The same in place, of loop bodies too; what fans inputs out to rows is the site that reads `row`."""
    nodes: list[NodeProto] = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rewrite(attribute.g, replace)
        if (node.domain, node.op_type) != (DOMAIN, OP_TYPE):
            nodes.append(node)
            continue
        signal = node.input[0]
        if node.input[4] == "row":
            nodes.append(helper.make_node("Gather", [signal, "row"], [f"{signal}_rows"], axis=0))
            signal = f"{signal}_rows"
        nodes += replace(node, signal)
    del graph.node[:]
    graph.node.extend(nodes)


def _activation(node: NodeProto) -> str:
    (activation,) = (attribute.s for attribute in node.attribute if attribute.name == "activation")
    return "Relu" if activation == b"relu" else "Identity"


def _noiseless(node: NodeProto, signal: str) -> list[NodeProto]:
    return [helper.make_node(_activation(node), [signal], list(node.output))]


def _random_normal_like(node: NodeProto, signal: str, sigma: float = SIGMA) -> list[NodeProto]:
    """act(x + sigma·x·z), as one writes it with what ONNX offers."""
    z, scaled, noisy = (f"{signal}_{part}" for part in ("z", "scaled", "noisy"))
    return [
        helper.make_node("RandomNormalLike", [signal], [z], scale=sigma),
        helper.make_node("Mul", [signal, z], [scaled]),
        helper.make_node("Add", [signal, scaled], [noisy]),
        helper.make_node(_activation(node), [noisy], list(node.output)),
    ]
