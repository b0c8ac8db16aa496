"""Noise after every product of any torch module: `inject_noise(module, kind, sigma)`.

The module is traced (torch.fx), and each product gets a site of its own. What is a product is decided by a list:
whatever multiplies matrices and is not known here is refused, never silently left noiseless.
"""

import copy
import operator
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from noisevote.noise_op.contract import Activation, NoiseKind, sigma_row
from noisevote.noise_op.noisy_recurrence import NoisyRecurrence
from noisevote.noise_op.torch_twin import Draws, GaussianNoise, current_draws, drawing, fanned_out

CONVOLUTIONS: Final = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
PRODUCTS: Final = (*CONVOLUTIONS, nn.Linear)
RECURRENCES: Final = (nn.LSTM, nn.GRU)
# Modules with weights that multiply element by element, or look up: digital, without a matrix-vector product.
DIGITAL: Final = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU, nn.Embedding)
PRODUCT_FUNCTIONS: Final = frozenset({
    functional.linear, functional.conv1d, functional.conv2d, functional.conv3d,
    functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d,
})  # fmt: skip
UNKNOWN_FUNCTIONS: Final = frozenset({
    operator.matmul, torch.matmul, torch.mm, torch.bmm, torch.mv, torch.dot, torch.inner, torch.outer, torch.addmm,
    torch.addmv, torch.baddbmm, torch.einsum, torch.tensordot, functional.bilinear,
    functional.scaled_dot_product_attention, functional.multi_head_attention_forward,
})  # fmt: skip
UNKNOWN_METHODS: Final = frozenset({"__matmul__", "matmul", "mm", "bmm", "mv", "dot", "addmm", "addmv", "baddbmm"})
RELU_FUNCTIONS: Final = frozenset({functional.relu, torch.relu, torch.relu_})
RELU_METHODS: Final = frozenset({"relu", "relu_"})
VOTES: Final = 2**32  # vote numbers of one seed


class UninjectableError(ValueError):
    """A module in which noise cannot be put after every product; the message names the place."""


class NoisyModule(nn.Module):
    """A module with noise after each of its products. Made by `inject_noise`.

    Called plainly, every row of every call is a presentation with noise of its own: the draws are those
    of (seed, vote), the vote number counting on from call to call, in training and in evaluation alike. Called inside
    `noise_op.torch_twin.drawing`, its draws are the given ones, and votes fan out; so it is exported.

    Attributes:
        graph: the module with its sites.
        kind, sigma: the noise; sigma may be set between calls, for instance to let it grow.
        presentations: int64 [], rows drawn for so far; part of the state, so that a checkpoint goes on where it was.
    """

    presentations: Tensor

    def __init__(self, graph: fx.GraphModule, kind: NoiseKind, sigma: float, seed: int) -> None:
        super().__init__()
        self.graph = graph
        self.kind: NoiseKind = kind
        self.sigma = sigma
        self.seed = seed
        self.register_buffer("presentations", torch.zeros((), dtype=torch.int64))

    def forward(self, *inputs: Tensor) -> Any:
        """What the module answers, under noise. Dimension 0 of every input are the rows."""
        if current_draws() is not None:
            return self.graph(*inputs)
        with drawing(self._fresh(inputs[0])):
            return self.graph(*inputs)

    def folded(self) -> "NoisyModule":
        """Copy in evaluation mode, batch norms multiplied into products: exact, as noise comes after."""
        folded = copy.deepcopy(self).eval()
        for product, norm in list(_normed_products(folded.graph)):
            _fold(folded.graph, product, norm)
        folded.graph.delete_all_unused_submodules()
        folded.graph.recompile()
        return folded

    def sites(self) -> list[GaussianNoise]:
        """Every site, in the order of their numbers."""
        return sorted((m for m in self.modules() if isinstance(m, GaussianNoise)), key=lambda site: site.site)

    def _fresh(self, rows: Tensor) -> Draws:
        """Draws for presentations that were not drawn for before, on the device of the rows."""
        count, device = len(rows), rows.device
        numbers = int(self.presentations) + torch.arange(count, device=device)
        self.presentations += count
        sigma = torch.tensor([sigma_row(self.kind, self.sigma)], device=device).expand(count, 2).contiguous()
        return Draws(sigma=sigma, seed=self.seed + numbers // VOTES, vote=numbers % VOTES)


def inject_noise(module: nn.Module, kind: NoiseKind, sigma: float, *, seed: int = 0) -> NoisyModule:
    """A copy of `module` with noise after each product: Conv, ConvTranspose, Linear, LSTM and GRU.

    Noise stands after the batch norm that follows a product, as in Qin and Vučinić's Table 1, and a ReLU that comes
    next is fused into the site. Sites are numbered in the order of computation. Votes fan out at the first site where
    all of the answer depends on it, else at the input. The weights are copies with the values of the given ones.

    Args:
        module: a classifier that torch.fx can trace; its first dimension are the rows.
        kind: `multiplicative` or `additive`.
        sigma: standard deviation, relative to the signal or absolute; the same at every site.
        seed: of all draws of plain calls.

    Raises:
        UninjectableError: it cannot be traced, has no product, or multiplies matrices in a way that is not known.
    """
    copied = copy.deepcopy(module)
    tracer = _Tracer()
    try:
        graph = fx.GraphModule(copied, tracer.trace(copied))
    except (fx.proxy.TraceError, TypeError) as error:
        raise UninjectableError(f"{type(module).__name__}: cannot be traced ({error})") from error
    graph.train(module.training)
    first = _put_sites(graph)
    _put_fan_out(graph, first)
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    return NoisyModule(graph, kind, sigma, seed).train(module.training)


class _Tracer(fx.Tracer):
    """Sites stay whole, as torch's own modules do."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, GaussianNoise) or super().is_leaf_module(m, module_qualified_name)


def _put_sites(graph: fx.GraphModule) -> fx.Node:
    """A site after every product; returns the first."""
    count = 0
    first: fx.Node | None = None
    for node in list(graph.graph.nodes):
        if _is_recurrence(graph, node):
            added, placed = _put_recurrence(graph, node, count), node
        elif _is_product(graph, node):
            added, placed = 1, _put_site(graph, node, count)
        else:
            _refuse_unknown(graph, node)
            continue
        first = first or placed
        count += added
    if first is None:
        raise UninjectableError("module: no product was found in it")
    return first


def _put_site(graph: fx.GraphModule, product: fx.Node, number: int) -> fx.Node:
    signal = _norm_after(graph, product) or product
    relu = _only_user(signal)
    relu = relu if relu is not None and _is_relu(graph, relu) else None
    activation: Activation = "none" if relu is None else "relu"
    name = f"noise_{number}"
    graph.add_submodule(name, GaussianNoise(number, activation))
    with graph.graph.inserting_after(signal):
        site = graph.graph.call_module(name, (signal,))
    (relu or signal).replace_all_uses_with(site, delete_user_cb=lambda user: user is not site)
    if relu is not None:
        graph.graph.erase_node(relu)
    return site


def _put_recurrence(graph: fx.GraphModule, node: fx.Node, first_site: int) -> int:
    """A noisy recurrence in place of torch's; returns how many sites it has."""
    noisy = NoisyRecurrence(_module(graph, node), first_site)  # type: ignore[arg-type]  # `_is_recurrence` looked
    name = f"noisy_recurrence_{first_site}"
    graph.add_submodule(name, noisy)
    node.target = name
    return len(noisy.sites)


def _put_fan_out(graph: fx.GraphModule, first: fx.Node) -> None:
    """At the first site, if the whole answer depends on it; else what goes past it would have other rows."""
    if not _is_recurrence(graph, first) and not _goes_past(graph, first):
        site = _module(graph, first)
        if isinstance(site, GaussianNoise):
            site.fan_out = True
            return
    for node in list(graph.graph.nodes):
        if node.op == "placeholder":
            with graph.graph.inserting_after(node):
                rows = graph.graph.call_function(fanned_out, (node,))
            node.replace_all_uses_with(rows, delete_user_cb=lambda user, rows=rows: user is not rows)


def _goes_past(graph: fx.GraphModule, site: fx.Node) -> bool:
    """Whether something of the inputs reaches the answer without passing the site."""
    open_nodes = [node for node in graph.graph.nodes if node.op == "placeholder"]
    seen = {site, *open_nodes}
    while open_nodes:
        node = open_nodes.pop()
        if node.op == "output":
            return True
        open_nodes += [user for user in node.users if user not in seen]
        seen.update(node.users)
    return False


def _module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def _is_recurrence(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(_module(graph, node), (*RECURRENCES, NoisyRecurrence))


def _is_product(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_function":
        return node.target in PRODUCT_FUNCTIONS
    return isinstance(_module(graph, node), PRODUCTS)


def _is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    match node.op:
        case "call_function":
            return node.target in RELU_FUNCTIONS
        case "call_method":
            return node.target in RELU_METHODS
    return isinstance(_module(graph, node), nn.ReLU)


def _refuse_unknown(graph: fx.GraphModule, node: fx.Node) -> None:
    module = _module(graph, node)
    weights = module is not None and any(True for _ in module.parameters()) and not isinstance(module, DIGITAL)
    function = node.op == "call_function" and node.target in UNKNOWN_FUNCTIONS
    method = node.op == "call_method" and node.target in UNKNOWN_METHODS
    if weights or function or method:
        what = type(module).__name__ if module is not None else getattr(node.target, "__name__", node.target)
        known = "Conv, ConvTranspose, Linear, LSTM and GRU, and their functions"
        raise UninjectableError(f"{node.name}: {what} may hold products that get no noise; known are {known}")


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _norm_after(graph: fx.GraphModule, product: fx.Node) -> fx.Node | None:
    """The batch norm that reads a product, and is the only one to do so."""
    user = _only_user(product)
    return user if user is not None and isinstance(_module(graph, user), _BatchNorm) else None


def _normed_products(graph: fx.GraphModule) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Each module that is a product, called once, with the batch norm that follows it."""
    calls = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    for node in graph.graph.nodes:
        norm = _norm_after(graph, node)
        if norm is not None and isinstance(_module(graph, node), PRODUCTS) and calls.count(node.target) == 1:
            yield node, norm


def _fold(graph: fx.GraphModule, product: fx.Node, norm: fx.Node) -> None:
    given, statistics = _module(graph, product), copy.deepcopy(_module(graph, norm))
    assert isinstance(statistics, _BatchNorm)
    if not statistics.affine:  # torch folds linear layers only with a scale and shift
        statistics.weight = nn.Parameter(torch.ones(statistics.num_features))
        statistics.bias = nn.Parameter(torch.zeros(statistics.num_features))
    if isinstance(given, nn.Linear):
        folded: nn.Module = fuse_linear_bn_eval(given, statistics)
    else:
        assert isinstance(given, CONVOLUTIONS)
        folded = fuse_conv_bn_eval(given, statistics, transpose=given.transposed)
    graph.set_submodule(str(product.target), folded)
    norm.replace_all_uses_with(product)
    graph.graph.erase_node(norm)
