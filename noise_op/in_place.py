"""Operations that overwrite their signal, made to answer a new one: a site needs its output for the gradient."""

import copy
import inspect
import operator
from typing import Any

import torch
from torch import fx

from noisevote.noise_op.products import module_of, signals


def keep_signals(graph: fx.GraphModule) -> None:
    """Replace each operation that overwrites a signal; what reads the signal later reads the answer instead."""
    dependent = signals(graph.graph)
    for node in list(graph.graph.nodes):
        written = node.args[0] if node.args else None
        if isinstance(written, fx.Node) and written in dependent and _replaced(graph, node):
            nodes = list(graph.graph.nodes)
            later = set(nodes[nodes.index(node) + 1 :])
            written.replace_all_uses_with(node, delete_user_cb=later.__contains__)


def _replaced(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node overwrote its first argument, and now does no longer."""
    match node.op:
        case "call_module":
            return _module_replaced(graph, node)
        case "call_method":
            name = str(node.target)
            if not name.endswith("_") or name.endswith("__") or not hasattr(torch.Tensor, name[:-1]):
                return False
            node.target = name[:-1]
            return True
        case "call_function":
            return _function_replaced(node)
    return False


def _module_replaced(graph: fx.GraphModule, node: fx.Node) -> bool:
    module = module_of(graph, node)
    if getattr(module, "inplace", None) is not True:
        return False
    plain: Any = copy.copy(module)  # the given module shares it with the network's own forward
    plain.inplace = False
    graph.set_submodule(str(node.target), plain)
    return True


def _function_replaced(node: fx.Node) -> bool:
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        name = target._opname
        if not target._schema.is_mutable or not name.endswith("_") or not hasattr(torch.ops.aten, name[:-1]):
            return False
        node.target = getattr(getattr(torch.ops.aten, name[:-1]), target._overloadname)
        return True
    name = getattr(target, "__name__", "")
    if target in (operator.iadd, operator.isub, operator.imul, operator.itruediv):
        node.target = getattr(operator, name[1:])
        return True
    if getattr(target, "__module__", "") == "torch.nn.functional":
        given = inspect.signature(target).bind(*node.args, **node.kwargs).arguments
        if given.get("inplace") is True:
            node.args, node.kwargs = (given.pop("input"),), {**given, "inplace": False}
            return True
    plain = getattr(torch, name[:-1], None) if name.endswith("_") and not name.endswith("__") else None
    if plain is None or getattr(torch, name, None) is not target:
        return False
    node.target = plain
    return True
