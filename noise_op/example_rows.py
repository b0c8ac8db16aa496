"""Calls of a network with some rows of an example."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map


def in_order(graph: fx.GraphModule, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[Any, ...]:
    """Arguments in the order of the graph's inputs, without those at the end that keep their defaults."""
    if not keywords:
        return inputs
    names = [str(node.target) for node in graph.graph.nodes if node.op == "placeholder"]
    defaults = {str(node.target): node.args[0] for node in graph.graph.nodes if node.op == "placeholder" and node.args}
    return (*inputs, *(keywords[name] if name in keywords else defaults[name] for name in names[len(inputs) :]))


def some_rows(inputs: Any, keywords: Any, chosen: tuple[int, ...]) -> Any:
    """The chosen rows of every tensor among the arguments, over and over where there are fewer."""

    def of(x: Any) -> Any:
        return x[[row % len(x) for row in chosen]] if isinstance(x, Tensor) and x.dim() else x

    return tree_map(of, (inputs, keywords))


def with_other_second_row(call: Any) -> Any:
    """The same arguments with another second row: its values in another order, and where they are numbers, halved."""

    def of(x: Any) -> Any:
        if not isinstance(x, Tensor) or x.dim() == 0:
            return x
        changed = x.clone()
        rolled = x[1].flatten().roll(1).reshape(x[1].shape)
        changed[1] = next((row for row in (rolled, x[2], x[0]) if not torch.equal(row, x[1])), x[1])
        if x.is_floating_point():
            changed[1] *= 0.5
        return changed

    return tree_map(of, call)
