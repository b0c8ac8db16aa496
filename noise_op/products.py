"""Which nodes of a traced network are matrix-vector products, of what, and what they are called."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.noisy_recurrence import CELLS, RECURRENCES, NoisyCell, NoisyRecurrence
from noisevote.noise_op.places import module_path, place

CONVOLUTIONS: Final = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
MODULES: Final = (*CONVOLUTIONS, nn.Linear)
# Modules with weights that multiply element by element, or look up: digital, without a matrix-vector product.
DIGITAL: Final = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU, nn.Embedding, nn.EmbeddingBag)

# Operation to the places of its operands among the arguments, and of what is added to their product.
_OPERANDS: Final[dict[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    **dict.fromkeys(("linear", "convolution", *(f"conv{d}d" for d in (1, 2, 3))), ((0, 1), (2,))),
    **dict.fromkeys((f"conv_transpose{d}d" for d in (1, 2, 3)), ((0, 1), (2,))),
    **dict.fromkeys(("matmul", "rmatmul", "linalg_matmul", "mm", "bmm", "mv", "dot", "vdot", "inner"), ((0, 1), ())),
    "tensordot": ((0, 1), ()),
    **dict.fromkeys(("addmm", "addmv", "baddbmm", "addbmm"), ((1, 2), (0,))),
    "scaled_dot_product_attention": ((0, 1, 2), ()),
}
# The names that arguments are given by, in the order of their places.
_KEYWORDS: Final = {
    0: ("input", "self", "a", "query", "x"),
    1: ("weight", "other", "mat2", "vec", "tensor", "mat1", "batch1", "b", "key"),
    2: ("bias", "mat2", "vec", "batch2", "value"),
}
_KNOWN: Final = (
    "Conv, ConvTranspose, Linear, RNN, LSTM, GRU and their cells, linear, conv, matmul and their like, einsum"
)
_SPECIAL: Final = re.compile(r"^__i?r?(.*)__$")  # __matmul__, __rmatmul__
# Reads of a signal's form, and tensors of its form: nothing of its values.
_FORM: Final = frozenset({
    "shape", "size", "dim", "ndim", "ndimension", "dtype", "device", "sym_size", "sym_numel", "sym_stride", "numel",
    "stride", "is_contiguous", "is_cuda", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "zeros_like",
    "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "_assert", "_assert_tensor_metadata",
})  # fmt: skip


@dataclass(frozen=True)
class Product:
    """One product: `weights` multiplies a signal by weights, `signals` two signals; `constant` has no signal."""

    name: str
    of: Literal["weights", "signals", "constant"]


def module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a node calls; None if it calls none."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def operation(node: fx.Node) -> str:
    """What torch calls the operation of a function or method; "" for what is not torch's, or a module."""
    if node.op == "call_method":
        return _SPECIAL.sub(r"\1", str(node.target))
    return _function_name(node) if node.op == "call_function" else ""


def _function_name(node: fx.Node) -> str:
    target = node.target
    if target is getattr:
        return str(node.args[1])
    if isinstance(target, torch._ops.OpOverload):
        return str(target._schema.name).removeprefix("aten::")
    if isinstance(target, torch._ops.OpOverloadPacket):
        return str(target._qualified_op_name).removeprefix("aten::")
    ours = re.match(r"torch\b|_?operator|builtins|math", getattr(target, "__module__", None) or "torch")
    return _SPECIAL.sub(r"\1", getattr(target, "__name__", "")) if ours else ""


def is_recurrence(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is a recurrent module or cell, torch's or the noisy one in its place."""
    return isinstance(module_of(graph, node), (*RECURRENCES, *CELLS, NoisyRecurrence, NoisyCell))


def is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is a plain ReLU."""
    return operation(node) in ("relu", "relu_") or isinstance(module_of(graph, node), nn.ReLU)


def is_norm(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node normalises by statistics over rows: torch's modules, or the function that others' call."""
    return operation(node) == "batch_norm" or isinstance(module_of(graph, node), _BatchNorm)


def reads_form(node: fx.Node) -> bool:
    """Whether a node reads no values of a signal, only its shape, type or device."""
    return operation(node) in _FORM


def signals(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose values depend on the inputs."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or (not reads_form(node) and not found.isdisjoint(node.all_input_nodes)):
            found.add(node)
    return found


def products(graph: fx.GraphModule) -> dict[fx.Node, Product]:
    """Every product that the graph shows, in the order of computation; recurrences are not among them.

    Raises:
        UninjectableError: for what is known to multiply matrices in a way that gets no noise.
    """
    signal, counts = signals(graph.graph), dict[str, int]()
    found: dict[fx.Node, Product] = {}
    for node in graph.graph.nodes:
        operands = _operands(graph, node)
        if operands is None:
            _refuse_unknown(graph, node)
            continue
        of: Literal["weights", "signals", "constant"] = ("constant", "weights", "signals")[min(2, sum(
            operand in signal for operand in operands[0]
        ))]  # fmt: skip
        if of == "weights" and any(added in signal for added in operands[1]):
            raise UninjectableError(f"{place(node)}: {operation(node)} adds a signal to the product at once, so that "
                                    "noise cannot be put between; multiply first, then add")  # fmt: skip
        name = _name(node, of, operands[0], signal)
        counts[name] = counts.get(name, 0) + 1
        found[node] = Product(name if counts[name] == 1 else f"{name}:{counts[name]}", of)
    return found


def _operands(graph: fx.GraphModule, node: fx.Node) -> tuple[list[Any], list[Any]] | None:
    """What a product multiplies, and what it adds; None where the node is no product."""
    if isinstance(module_of(graph, node), MODULES):
        return [node.args[0] if node.args else next(iter(node.kwargs.values()))], []
    name = operation(node)
    if name == "einsum":
        return (_factors(node), []) if _contracts(node) else None
    if name not in _OPERANDS:
        return None
    return tuple([_argument(node, at) for at in places] for places in _OPERANDS[name])  # type: ignore[return-value]  # two


def _argument(node: fx.Node, at: int) -> Any:
    if at < len(node.args):
        return node.args[at]
    return next((node.kwargs[name] for name in _KEYWORDS[at] if name in node.kwargs), None)


def _factors(node: fx.Node) -> list[Any]:
    given = node.args[1:]
    return list(given[0]) if given and isinstance(given[0], list | tuple) else list(given)


def _contracts(node: fx.Node) -> bool:
    """Whether an einsum sums over an index that two of its factors have."""
    equation = node.args[0] if node.args else node.kwargs.get("equation")
    if not isinstance(equation, str):
        raise UninjectableError(f"{place(node)}: einsum without an equation in letters is not known")
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    shared = [letter for letter in set("".join(terms)) - {"."} if sum(letter in term for term in terms) > 1]
    return any(letter not in right for letter in shared) if arrow else bool(shared)


def _name(node: fx.Node, of: str, operands: Iterable[Any], signal: set[fx.Node]) -> str:
    """The layer's path; the weights' without `weight`; else the place of an operation that has no weights."""
    if node.op == "call_module":
        return str(node.target)
    weights = [n for n in operands if isinstance(n, fx.Node) and n not in signal and n.op == "get_attr"]
    if of != "signals" and weights:
        name = re.sub(r"[._]?weight$", "", str(weights[0].target))
        return name or "weight"
    return ".".join(filter(None, (module_path(node), operation(node))))


def _refuse_unknown(graph: fx.GraphModule, node: fx.Node) -> None:
    """Refuse modules with weights of which nothing is known; what else hides a product is seen when it runs."""
    module = module_of(graph, node)
    if module is None or is_recurrence(graph, node) or isinstance(module, DIGITAL):
        return
    packed = type(module).__module__.startswith("torch.ao.")
    if packed or any(True for _ in module.parameters()):
        raise UninjectableError(
            f"{place(node)}: {type(module).__name__} may hold products that get no noise; known are {_KNOWN}"
        )


def only_user(node: fx.Node) -> fx.Node | None:
    """The one node that reads a node's values; None if there are several, or none."""
    users = [user for user in node.users if not reads_form(user)]
    return users[0] if len(users) == 1 else None


def norm_after(graph: fx.GraphModule, product: fx.Node) -> fx.Node | None:
    """The batch norm that reads a product, and is the only one to do so."""
    user = only_user(product)
    if user is None or not is_norm(graph, user) or _argument(user, 0) is not product:
        return None
    return user
