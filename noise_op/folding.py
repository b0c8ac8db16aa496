"""Batch norms in evaluation mode, multiplied into the products before them: exact, as noise comes after."""

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from noisevote.noise_op.products import CONVOLUTIONS, MODULES, module_of, norm_after, operation

_FUNCTIONS: Final = frozenset({"linear", *(f"conv{d}d" for d in (1, 2, 3))})


def fold_norms(graph: fx.GraphModule) -> None:
    """Fold every norm whose product has weights of its own; others stay, and answer the same."""
    for number, (product, norm) in enumerate(list(_normed_products(graph))):
        statistics = _statistics(graph, norm)
        if statistics is None:
            continue
        if product.op == "call_module":
            _fold_module(graph, product, statistics)
        elif not _fold_function(graph, product, statistics, number):
            continue
        norm.replace_all_uses_with(product)
        graph.graph.erase_node(norm)
    graph.delete_all_unused_submodules()
    graph.recompile()


def _normed_products(graph: fx.GraphModule) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Each product that is computed once, with the batch norm that follows it."""
    calls = [node.target for node in graph.graph.nodes if node.op in ("call_module", "get_attr")]
    for node in graph.graph.nodes:
        module = module_of(graph, node)
        once = isinstance(module, MODULES) and calls.count(node.target) == 1 and _plain(module)
        if once or (node.op == "call_function" and operation(node) in _FUNCTIONS):
            norm = norm_after(graph, node)
            if norm is not None:
                yield node, norm


def _plain(module: nn.Module) -> bool:
    """Whether its weights are what they seem: not made anew, by a parametrization or hook, whenever it is called."""
    return not (parametrize.is_parametrized(module) or module._forward_pre_hooks or module._forward_hooks)


# Mean, variance, epsilon, scale, shift: the arguments of torch's fusion after the product's own.
Statistics = tuple[Tensor, Tensor, float, Tensor, Tensor]


def _statistics(graph: fx.GraphModule, norm: fx.Node) -> Statistics | None:
    module = module_of(graph, norm)
    if isinstance(module, _BatchNorm):
        if not _plain(module):
            return None
        given: list[Any] = [module.running_mean, module.running_var, module.weight, module.bias, module.eps]
    else:
        names = ("running_mean", "running_var", "weight", "bias")
        functional = getattr(norm.target, "__module__", "") == "torch.nn.functional"
        order = names if functional else ("weight", "bias", "running_mean", "running_var")  # as ATen has them
        by_name = {name: _given(graph, norm, at, name) for at, name in enumerate(order, start=1)}
        eps = norm.args[7] if len(norm.args) > 7 else norm.kwargs.get("eps", 1e-5)
        given = [*(by_name[name] for name in names), eps]
    mean, variance, scale, shift, eps = given
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        return None
    scale = torch.ones_like(mean) if scale is None else scale
    shift = torch.zeros_like(mean) if shift is None else shift
    return mean, variance, float(eps), scale, shift


def _given(graph: fx.GraphModule, node: fx.Node, at: int, name: str) -> Any:
    """The tensor that an argument names; None if it is None, or is computed."""
    argument = node.args[at] if at < len(node.args) else node.kwargs.get(name)
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    found: Any = graph
    for part in str(argument.target).split("."):
        found = getattr(found, part)
    return found


def _fold_module(graph: fx.GraphModule, product: fx.Node, statistics: Statistics) -> None:
    given: Any = module_of(graph, product)
    if isinstance(given, CONVOLUTIONS):
        given.weight, given.bias = fuse_conv_bn_weights(given.weight, given.bias, *statistics, given.transposed)
    else:
        given.weight, given.bias = fuse_linear_bn_weights(given.weight, given.bias, *statistics)


def _fold_function(graph: fx.GraphModule, product: fx.Node, statistics: Statistics, number: int) -> bool:
    weight, bias = _given(graph, product, 1, "weight"), _given(graph, product, 2, "bias")
    has_bias = len(product.args) > 2 or "bias" in product.kwargs
    named_bias = product.args[2] if len(product.args) > 2 else product.kwargs.get("bias")
    if weight is None or (has_bias and named_bias is not None and bias is None):
        return False
    fuse = fuse_linear_bn_weights if operation(product) == "linear" else fuse_conv_bn_weights
    weights = dict(zip(("weight", "bias"), fuse(weight, bias, *statistics), strict=True))
    rest = product.args[3:] if len(product.args) > 3 else ()
    kwargs = {key: value for key, value in product.kwargs.items() if key not in ("input", "weight", "bias")}
    signal = product.args[0] if product.args else product.kwargs["input"]
    with graph.graph.inserting_before(product):
        nodes = []
        for name, value in weights.items():
            setattr(graph, f"folded_{number}_{name}", nn.Parameter(value.detach()))
            nodes.append(graph.graph.get_attr(f"folded_{number}_{name}"))
    product.args, product.kwargs = (signal, *nodes, *rest), kwargs
    return True
