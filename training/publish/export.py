"""A trained network as one self-contained ONNX file that carries the noise operator twice.

Each noise is a `noisevote::GaussianNoise` node, and the file holds that operator's body as a model-local
function: ONNX Runtime uses the native kernel where it is registered and the function body elsewhere.
"""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from onnx.defs import OpSchema
from onnxscript import opset21 as op
from onnxscript.values import Op, Opset
from torch import Tensor, nn

from noisevote.model_store.files import replace_file
from noisevote.noise_op.contract import DOMAIN, OP_TYPE, OP_VERSION, OperatorVersion
from noisevote.noise_op.function_body import OPSET, gaussian_noise_function
from noisevote.noise_op.injection import NoisyModule, UninjectableError
from noisevote.noise_op.onnx_versions import draw_with
from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.networks.layers import fold
from noisevote.training.networks.network import Network
from noisevote.training.runs.recipe import Recipe

INPUT_NAMES: Final = ("input", "sigma", "seed", "vote", "row")
OUTPUT_NAME: Final = "logits"


@dataclass(frozen=True)
class Argument:
    """One input of a network: its shape without the rows, and its type."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


class PublishedForm(nn.Module):
    """The signature of a published graph around a folded network: N inputs, R rows.

    Args:
        network: answers logits, inside `drawing`.
        arguments: what it takes, where that is not one float32 tensor: several are one vector [N, numbers] in the
            graph, the numbers of each in C order, one after the other.
        binary: it answers one logit, of the second of two classes.
    """

    def __init__(self, network: nn.Module, arguments: Sequence[Argument] = (), *, binary: bool = False) -> None:
        super().__init__()
        self.network = network
        self.arguments = tuple(arguments)
        self.binary = binary

    def forward(self, inputs: Tensor, sigma: Tensor, seed: Tensor, vote: Tensor, row: Tensor) -> Tensor:
        """Logits [R, K] of vote `vote[r]` of input `row[r]`."""
        with drawing(Draws(sigma=sigma, seed=seed, vote=vote, row=row)):
            logits: Tensor = self.network(*as_arguments(inputs, self.arguments))
        return torch.cat((torch.zeros_like(logits), logits), dim=1) if self.binary else logits


def as_arguments(inputs: Tensor, arguments: Sequence[Argument]) -> tuple[Tensor, ...]:
    """What a network takes, of the one input of a published graph."""
    if not arguments:
        return (inputs,)
    if len(arguments) == 1:
        return (_typed(inputs, arguments[0]),)
    parts = torch.split(inputs, [argument.size for argument in arguments], dim=1)
    return tuple(
        _typed(part.reshape(-1, *argument.shape), argument) for part, argument in zip(parts, arguments, strict=True)
    )


def _typed(x: Tensor, argument: Argument) -> Tensor:
    return x if argument.dtype == torch.float32 else x.to(argument.dtype)


def export(network: Network, recipe: Recipe, operator: OperatorVersion = OP_VERSION) -> onnx.ModelProto:
    """The published form of a trained network: batch norms folded, opset 21, no external data.

    The same weights give the same bytes: nothing of the machine or the moment is kept in the file.
    """
    metadata = {
        "network": recipe.network,
        "variant": recipe.variant,
        "noise": recipe.noise,
        "sigma_train": str(recipe.sigma_train),
    }
    model = published_graph(fold(network), network.input_shape, metadata)
    draw_with(model, operator)
    return model


def published_graph(
    folded: nn.Module, input_shape: tuple[int, ...], metadata: Mapping[str, str], arguments: Sequence[Argument] = ()
) -> onnx.ModelProto:
    """The published form of any module in evaluation mode whose noise is drawn by `GaussianNoise` sites.

    Args:
        folded: [N, *input_shape] to logits [R, classes] inside `drawing`.
        input_shape: of one input.
        metadata: what the file says about itself, beside the operator's version.
        arguments: what the network takes, where that is not one float32 tensor.

    Raises:
        UninjectableError: it answers something else than logits.
    """
    noisy = folded if isinstance(folded, NoisyModule) else None
    form = PublishedForm(folded, arguments, binary=noisy is not None and noisy.cut == "sigmoid")
    if noisy is not None:
        _refuse_other_answers(form, input_shape)
    model = _translated(form, input_shape)
    if noisy is not None:
        _name_sites(model.graph, noisy)
        if noisy.cut:
            metadata = {**metadata, "cut": noisy.cut}
    _strip(model)
    _hoist_invariants(model.graph)
    model.functions.append(gaussian_noise_function())
    for opset in model.opset_import:
        if opset.domain == DOMAIN:
            opset.version = OP_VERSION
    model.producer_name, model.producer_version = "noisevote", ""
    onnx.helper.set_model_props(model, {**metadata, "operator_version": str(OP_VERSION)})
    onnx.checker.check_model(model)
    return model


def write(model: onnx.ModelProto, path: Path) -> None:
    """Replace `path` whole by the model's bytes, which depend on the model alone."""
    replace_file(path, model.SerializeToString(deterministic=True))


def _translated(published: PublishedForm, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """Torch's own exporter, told how to write our operator."""
    # Sizes 0 and 1 would become constants of the graph, and one tensor given twice one input.
    seed, vote, row = (torch.zeros(3, dtype=torch.int64) for _ in range(3))
    example = (torch.zeros(2, *input_shape), torch.zeros(3, 2), seed, vote, row)
    dynamic = {0: torch.export.Dim.DYNAMIC}
    with _without_torch_chatter(), torch.no_grad():  # weights put together for a loop's body need no gradient
        program = torch.onnx.export(
            published.eval(),
            example,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=INPUT_NAMES,
            output_names=(OUTPUT_NAME,),
            dynamic_shapes=tuple(dynamic for _ in INPUT_NAMES),
            custom_translation_table={torch.ops.noisevote.gaussian_noise.default: _noise_node},
        )
    assert program is not None  # None is what the exporter without dynamo returns
    return program.model_proto


def _refuse_other_answers(form: PublishedForm, input_shape: tuple[int, ...]) -> None:
    """One run of two inputs: they must give [2, K], K at least 2."""
    number = torch.arange(2)
    with torch.no_grad():
        logits: Any = form.eval()(torch.zeros(2, *input_shape), torch.zeros(2, 2), number, number, number)
    if not isinstance(logits, Tensor):
        raise UninjectableError(f"module: it answers a {type(logits).__name__}; one tensor of logits is needed")
    if form.binary and logits.shape != (2, 2):
        raise UninjectableError(f"module: a sigmoid on {logits.shape[1] // 2} outputs answers several questions at "
                                "once (multi-label); votes are for one of several classes")  # fmt: skip
    if logits.dim() != 2 or logits.shape[0] != 2 or logits.shape[1] < 2:
        raise UninjectableError(f"module: two inputs give an answer of shape {list(logits.shape)}; logits [rows, "
                                "classes] of two classes or more are needed")  # fmt: skip


def _name_sites(graph: onnx.GraphProto, noisy: NoisyModule) -> None:
    """Let each noise node bear its layer's name, in loop bodies too."""
    names = {site.site: getattr(site, "name", str(site.site)) for site in noisy.sites()}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _name_sites(attribute.g, noisy)
        if node.op_type == OP_TYPE and node.domain == DOMAIN:
            (number,) = (attribute.i for attribute in node.attribute if attribute.name == "site")
            node.name = names[number]


def _noise_node(  # the parameters of the torch operator, in its order
    x: Any, sigma: Any, seed: Any, vote: Any, row: Any, step: Any, site: int, activation: str
) -> Any:
    """One GaussianNoise node. `row` and `step` are always given, because one function body serves all nodes."""
    if row is None:
        rows: Any = op.Squeeze(op.Shape(sigma, start=0, end=1))
        row = op.Range(op.Constant(value_int=0), rows, op.Constant(value_int=1))
    step = op.Constant(value_int=0) if step is None else step
    return _NOISE(x, sigma, seed, vote, row, step, site=site, activation=activation)


def _schema() -> OpSchema:
    signal, index = "tensor(float)", "tensor(int64)"
    types = {"X": signal, "sigma": signal, "seed": index, "vote": index, "row": index, "step": index}
    return OpSchema(
        OP_TYPE,
        DOMAIN,
        OP_VERSION,
        inputs=[OpSchema.FormalParameter(name, kind) for name, kind in types.items()],
        outputs=[OpSchema.FormalParameter("Y", signal)],
        attributes=[
            OpSchema.Attribute("site", OpSchema.AttrType.INT, "number of the site", required=True),
            OpSchema.Attribute("activation", OpSchema.AttrType.STRING, "none or relu", required=True),
        ],
    )


_NOISE: Final = Op(Opset(DOMAIN, OP_VERSION), OP_TYPE, _schema())


def _strip(model: onnx.ModelProto) -> None:
    """Take out the exporter's notes (stack traces with paths) and name the dynamic sizes N and R."""
    _strip_graph(model.graph)
    model.ClearField("metadata_props")
    model.graph.name = "noisevote"
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N" if value.name == "input" else "R"


def _strip_graph(graph: onnx.GraphProto) -> None:
    """Take the exporter's notes out of a graph, loop bodies included."""
    for noted in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    for field in ("value_info", "metadata_props", "doc_string"):
        graph.ClearField(field)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip_graph(attribute.g)


def _hoist_invariants(graph: onnx.GraphProto) -> None:
    """Move what is the same in every step of a Scan, such as the identity that each noise is given, to before it."""
    for place in reversed(range(len(graph.node))):
        if graph.node[place].op_type != "Scan":
            continue
        (body,) = [attribute.g for attribute in graph.node[place].attribute if attribute.name == "body"]
        varying = {value.name for value in body.input}
        inside: list[onnx.NodeProto] = []
        before: list[onnx.NodeProto] = []
        for node in body.node:
            varies = not varying.isdisjoint(node.input)
            varying.update(node.output if varies else ())
            (inside if varies else before).append(node)
        for offset, node in enumerate(before):
            graph.node.insert(place + offset, node)
        del body.node[:]
        body.node.extend(inside)


@contextmanager
def _without_torch_chatter() -> Iterator[None]:
    """Silence what torch's exporter says about itself and about packages that are not used here."""
    # One lists torchvision operators that are not installed, one wonders about a Scan without scanned outputs.
    loggers = [logging.getLogger(name) for name in ("torch.onnx._internal.exporter._registration", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch copies its own deprecated tree classes while exporting
            warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
            # it loads modules of its own while it traces a loop
            warnings.filterwarnings("ignore", "`torch.jit.script_method` is deprecated", DeprecationWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
