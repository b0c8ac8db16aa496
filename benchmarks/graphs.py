"""A published graph with our noise, against itself without noise and with RandomNormalLike.

The rivals are the same file with each GaussianNoise node replaced by standard operators, so that weights,
shapes and the fan-out over votes stay what they are.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from benchmarks.timing import in_turns
from noisevote.noise_op.contract import DOMAIN, QUANTIZED_OP_TYPE
from noisevote.noise_op.library import Kernel

SIGMA = 1.0
ROUNDS = 30
FED = "_fed"  # ends the names of noise that is made outside of a graph

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
    used = _read_of(session, batch)
    return lambda: session.run(["logits"], used)


def _read_of(session: onnxruntime.InferenceSession, batch: Arrays) -> Arrays:
    wanted = {value.name for value in session.get_inputs()}
    return {name: value for name, value in batch.items() if name in wanted}


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
    """A published file as one writes it with what ONNX offers: multiplicative noise of a fixed sigma, without seeds.

    Noise on bytes reads what its product wrote, in floats, and writes what the next product reads.
    """
    model = onnx.load_from_string(file)
    model.graph.initializer.extend(_steps(model.graph.node))
    model = onnx.load_from_string(_without(model, partial(_random_normal_like, sigma=sigma)))
    return _pruned(model)


def with_noise_fed(file: bytes) -> tuple[bytes, dict[str, tuple[int, ...]]]:
    """A published file whose noise, sigma·z, is made outside; shapes of these inputs without the rows, by name."""
    model = onnx.load_from_string(_without(onnx.load_from_string(file), _fed))
    fed = [node.input[1] for node in model.graph.node if node.op_type == "Mul" and node.input[1].endswith(FED)]
    drawn = onnx.load_from_string(with_random_normal_like(file, SIGMA))
    names = [name.removesuffix(FED) + "_z" for name in fed]
    drawn.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = session_of(drawn.SerializeToString(), 1)
    shapes = [array.shape[1:] for array in session.run(names, _read_of(session, feeds(session, 1, 1)))]
    model.graph.input.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in fed)
    return _pruned(model), dict(zip(fed, shapes, strict=True))


def _pruned(model: onnx.ModelProto) -> bytes:
    """The model without what only our noise read."""
    read = {value.name for value in model.graph.output}
    for node in list(model.graph.node)[::-1]:
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
    """The model with every noise node rewritten."""
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
        if node.domain != DOMAIN:
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
    if node.op_type == QUANTIZED_OP_TYPE:
        floats, active, steps = f"{signal}_floats", f"{signal}_active", node.output[0]
        return [
            helper.make_node("DequantizeLinear", [signal, f"{steps}_in_scale", f"{steps}_in_zero"], [floats]),
            *_noise_of(floats, (z, scaled, noisy), sigma),
            helper.make_node(_activation(node), [noisy], [active]),
            helper.make_node("QuantizeLinear", [active, f"{steps}_out_scale", f"{steps}_out_zero"], [steps]),
        ]
    return [
        *_noise_of(signal, (z, scaled, noisy), sigma),
        helper.make_node(_activation(node), [noisy], list(node.output)),
    ]


def _fed(node: NodeProto, signal: str) -> list[NodeProto]:
    """act(x + x·z), z an input."""
    z, scaled, noisy = f"{signal}{FED}", f"{signal}_scaled", f"{signal}_noisy"
    return [
        *_noise_of(signal, (z, scaled, noisy), SIGMA)[1:],
        helper.make_node(_activation(node), [noisy], list(node.output)),
    ]


def _noise_of(signal: str, names: tuple[str, str, str], sigma: float) -> list[NodeProto]:
    z, scaled, noisy = names
    return [
        helper.make_node("RandomNormalLike", [signal], [z], scale=sigma),
        helper.make_node("Mul", [signal, z], [scaled]),
        helper.make_node("Add", [signal, scaled], [noisy]),
    ]


def _steps(nodes: Iterable[NodeProto]) -> list[onnx.TensorProto]:
    """Scale and zero point of what each noise on bytes reads and writes, as QuantizeLinear has them."""
    found = []
    for node in nodes:
        if (node.domain, node.op_type) == (DOMAIN, QUANTIZED_OP_TYPE):
            numbers = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            for name, value in (
                ("in_scale", np.float32(numbers["scale"])),
                ("in_zero", np.uint8(numbers["zero_point"])),
                ("out_scale", np.float32(1 / numbers["rate"])),
                ("out_zero", np.uint8(numbers["y_zero_point"])),
            ):
                found.append(numpy_helper.from_array(np.asarray(value), f"{node.output[0]}_{name}"))
    return found
