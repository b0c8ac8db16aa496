"""Noise after every product of any ONNX classifier: `inject(model, options)`. Needs the onnx package, no torch.

What comes out is a published graph: inputs `input`, `sigma`, `seed`, `vote` and `row`, output `logits`, the operator's
body as a function in the file. What is a product is decided by a list of operators; what is not known is refused by
name, never silently left noiseless.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Final

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper

from noisevote.noise_op.contract import DOMAIN, OP_TYPE, OP_VERSION, NoiseKind, OperatorVersion
from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.function_body import OPSET, gaussian_noise_function
from noisevote.noise_op.onnx_ends import (
    INPUT,
    OUTPUT,
    ROW,
    SEED,
    SIGMA,
    VOTE,
    Head,
    find_logits,
    is_channels_last,
    put_input,
    put_output,
    refuse_no_classifier,
)
from noisevote.noise_op.onnx_folding import fold_norms
from noisevote.noise_op.onnx_graph import OnnxGraph
from noisevote.noise_op.onnx_preparation import IR_VERSION, prepare
from noisevote.noise_op.onnx_products import FoundProduct, find_products
from noisevote.noise_op.onnx_versions import draw_with

RESERVED: Final = (INPUT, SIGMA, SEED, VOTE, ROW, OUTPUT)
FIRST, LAST = "first", "last"
# Tensors that every site reads beside its own: rows as they are, and time step 0.
_IDENTITY: Final = "noisevote_identity"
_STEP: Final = "noisevote_step"


@dataclass(frozen=True)
class Options:
    """What of a model is analog, and how noisy.

    Attributes:
        noise: the kind that the file is meant for; what is drawn is up to each request.
        digital: names or patterns of layers that get no noise; `first` and `last` are the first and last product.
        analog: names or patterns of products of two signals that get noise, which by default they do not.
        sigma_scale: factors of sigma, by names or patterns of layers; of several that match the last counts.
        shape: sizes of one input as the model takes it, where the file leaves them open.
        output: name of the output that holds the classes, where there are several.
        operator: the version of the noise operator, which says how noise is drawn.
    """

    noise: NoiseKind = "multiplicative"
    digital: tuple[str, ...] = ()
    analog: tuple[str, ...] = ()
    sigma_scale: Mapping[str, float] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    output: str | None = None
    operator: OperatorVersion = OP_VERSION


@dataclass(frozen=True)
class Product:
    """A product of the network, in the order of computation.

    `site` is the number of its noise, None for a digital one, whose `reason` says why; `sigma_scale` the factor of
    sigma there.
    """

    layer: str
    operator: str
    site: int | None
    sigma_scale: float = 1.0
    reason: str = ""


@dataclass(frozen=True)
class SourceEnds:
    """How the foreign model's own ends belong to the published ones: what comparing the two needs.

    Attributes:
        input: name of its input.
        dtype: NumPy's name of what it takes.
        channels_last: it takes images as height, width, channels.
        logits: the tensor that holds the logits.
        head: what was cut off behind it.
    """

    input: str
    dtype: str
    channels_last: bool
    logits: str
    head: Head


@dataclass(frozen=True)
class Injected:
    """A noisy model: its graph, its products, the input's shape in the published graph, and the source's ends."""

    model: ModelProto
    products: tuple[Product, ...]
    shape: tuple[int, ...]
    ends: SourceEnds


def inject(source: ModelProto, options: Options) -> Injected:
    """The published graph of a classifier, with noise after each product but the digital ones.

    Raises:
        UninjectableError: it cannot be done; the message names the node and the reason.
    """
    graph, taken = prepare(source, options.shape)
    outcome = find_logits(graph, options.output)
    refuse_no_classifier(graph, outcome)
    dtype = helper.tensor_dtype_to_np_dtype(taken.element).name
    ends = SourceEnds(taken.name, dtype, is_channels_last(taken.shape), outcome.tensor, outcome.head)
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_empty_tensor_value_info(outcome.tensor))
    graph.prune()
    outcome = replace(outcome, tensor=_free_reserved_names(graph, outcome.tensor))
    if taken.batch == 1:
        _free_batch(graph)
    fold_norms(graph)
    found = find_products(graph)
    products = _choose(found, options)
    _put_sites(graph, found, products)
    put_output(graph, replace(outcome, tensor=graph.outputs[0]))
    shape = put_input(graph, replace(taken, name=graph.graph.input[0].name))
    _put_fan_out(graph)
    return Injected(_finished(graph, products, options), products, shape, ends)


def _free_reserved_names(graph: OnnxGraph, logits: str) -> str:
    """Rename tensors whose names a published graph gives to its own ends; returns the logits' name."""
    for name in set(graph.tensor_names()) & set(RESERVED):
        new = graph.fresh(f"{name}_of_model")
        graph.read_instead(name, new)
        for node in graph.graph.node:
            node.output[:] = [new if each == name else each for each in node.output]
        for value in (*graph.graph.input, *graph.graph.output, *graph.graph.initializer, *graph.graph.value_info):
            value.name = new if value.name == name else value.name
        logits = new if logits == name else logits
    return logits


def _free_batch(graph: OnnxGraph) -> None:
    """Let reshapes that a file of batch 1 makes to [1, …] keep however many rows there are."""
    for node in list(graph.graph.node):
        target = graph.constant(node.input[1]) if node.op_type == "Reshape" else None
        if target is not None and target.ndim == 1 and len(target) > 1 and target[0] == 1:
            open_size = -1 if not (target == -1).any() else 0
            node.input[1] = graph.add_constant(f"{node.input[1]}_of_rows", np.array([open_size, *target[1:]], np.int64))


def _choose(found: Sequence[FoundProduct], options: Options) -> tuple[Product, ...]:
    """Which products are analog."""
    patterns = (*options.digital, *options.analog, *options.sigma_scale)
    unused = [each for each in patterns if not _matched(each, found)]
    if unused:
        layers = ", ".join(each.layer for each in found)
        raise UninjectableError(f"pattern {unused[0]!r} matches no layer; there are {layers}")
    products: list[Product] = []
    site = 0
    for place, each in enumerate(found):
        reason = _digital_reason(each, place, len(found), options)
        scale = [
            factor for pattern, factor in options.sigma_scale.items() if _matches(pattern, each, place, len(found))
        ]
        number = None if reason else site
        site += not reason
        factor = scale[-1] if scale and not reason else 1.0
        products.append(Product(each.layer, each.node.op_type, number, factor, reason))
    if not site:
        raise UninjectableError("model: no product of it gets noise" if found else "model: no product was found in it")
    return tuple(products)


def _digital_reason(each: FoundProduct, place: int, count: int, options: Options) -> str:
    for pattern in options.digital:
        if _matches(pattern, each, place, count):
            return f"asked for by {pattern!r}"
    if each.operands == "signals" and not any(_matches(pattern, each, place, count) for pattern in options.analog):
        return "product of two signals"
    return ""


def _matched(pattern: str, found: Sequence[FoundProduct]) -> bool:
    return any(_matches(pattern, each, place, len(found)) for place, each in enumerate(found))


def _matches(pattern: str, each: FoundProduct, place: int, count: int) -> bool:
    named = {FIRST: 0, LAST: count - 1}
    return named.get(pattern) == place or fnmatchcase(each.layer, pattern)


def _put_sites(graph: OnnxGraph, found: Sequence[FoundProduct], products: Iterable[Product]) -> None:
    for each, product in zip(found, products, strict=True):
        if product.site is not None:
            _put_site(graph, each.signal, product)


def _put_site(graph: OnnxGraph, signal: str, product: Product) -> None:
    """A noise node behind a signal; a ReLU that alone reads it becomes part of it. Rows are the signal's own."""
    relu = graph.only_consumer(signal)
    relu = relu if relu is not None and relu.op_type == "Relu" else None
    replaced = signal if relu is None else relu.output[0]
    noisy = graph.fresh(f"{signal}_noisy")
    sigma = SIGMA if product.sigma_scale == 1 else _scaled_sigma(graph, product.sigma_scale)
    node = helper.make_node(
        OP_TYPE, [signal, sigma, SEED, VOTE, _IDENTITY, _STEP], [noisy], name=f"{product.layer}/noise", domain=DOMAIN,
        site=product.site, activation="none" if relu is None else "relu",
    )  # fmt: skip
    graph.insert(node, graph.producer(signal) if relu is None else relu)
    graph.read_instead(replaced, noisy, but=node)
    if relu is not None:
        graph.remove(relu)
        for each in graph.graph.node:
            if each.output == node.output:
                each.input[0] = signal
    for value in graph.graph.output:
        value.name = noisy if value.name == replaced else value.name


def _scaled_sigma(graph: OnnxGraph, factor: float) -> str:
    name = f"sigma_times_{factor:g}"
    if graph.producer(name) is None:
        constant = graph.add_constant(f"{name}_factor", np.array(factor, np.float32))
        graph.insert(helper.make_node("Mul", [SIGMA, constant], [name], name=name), None)
    return name


def _put_fan_out(graph: OnnxGraph) -> None:
    """Votes fan out at the first site if all of the answer passes through it, else at the input."""
    first = next(node for node in graph.graph.node if node.op_type == OP_TYPE)
    if _all_passes(graph, first):
        first.input[4] = ROW
    else:
        rows = graph.fresh("input_of_rows")
        graph.read_instead(INPUT, rows)
        graph.insert(helper.make_node("Gather", [INPUT, ROW], [rows], name="votes fan out", axis=0), None)
    zero, one = graph.add_constant("noisevote_zero", np.array(0)), graph.add_constant("noisevote_one", np.array(1))
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0), _STEP))
    count = graph.fresh("noisevote_rows")
    graph.insert(helper.make_node("Range", [zero, count, one], [_IDENTITY], name="identity"), None)
    graph.insert(helper.make_node("Size", [ROW], [count], name="rows"), None)
    graph.prune()


def _all_passes(graph: OnnxGraph, site: NodeProto) -> bool:
    """Whether nothing of the input reaches the logits but through the site."""
    past = {INPUT}
    for node in graph.graph.node:
        if node.output != site.output and not past.isdisjoint(node.input):
            past.update(node.output)
    return OUTPUT not in past


def _finished(graph: OnnxGraph, products: Sequence[Product], options: Options) -> ModelProto:
    model = graph.model
    model.graph.ClearField("value_info")
    model.graph.name = "noisevote"
    model.functions.append(gaussian_noise_function())
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, OP_VERSION)])
    model.ir_version, model.producer_name = IR_VERSION, "noisevote"
    helper.set_model_props(
        model,
        {
            "operator_version": str(OP_VERSION),
            "noise": options.noise,
            "products": json.dumps([asdict(each) for each in products]),
        },
    )
    draw_with(model, options.operator)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise UninjectableError(f"what came out is no valid graph: {error}") from error
    return model
