"""An ONNX graph that is looked at and changed: who makes a tensor, who reads it, what is constant."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

STANDARD: Final = ("", "ai.onnx")


class OnnxGraph:
    """The graph of `model`, changed in place.

    Nodes stay in an order in which each comes after what it reads: a new one is put right behind a given one, or first.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.graph: GraphProto = model.graph
        self._names = set(self.tensor_names())

    def tensor_names(self) -> Iterable[str]:
        """Every tensor's name."""
        yield from (value.name for value in (*self.graph.input, *self.graph.initializer))
        yield from (name for node in self.graph.node for name in node.output if name)

    def fresh(self, wanted: str) -> str:
        """A name that no tensor has yet."""
        name, count = wanted, 0
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name

    @property
    def outputs(self) -> list[str]:
        """Names of the graph's outputs."""
        return [value.name for value in self.graph.output]

    def producer(self, tensor: str) -> NodeProto | None:
        """The node that makes a tensor; None: it is an input or a constant."""
        return next((node for node in self.graph.node if tensor in node.output), None)

    def consumers(self, tensor: str) -> list[NodeProto]:
        """The nodes that read a tensor, also in their subgraphs."""
        return [node for node in self.graph.node if tensor in reads(node)]

    def only_consumer(self, tensor: str) -> NodeProto | None:
        """The node that reads a tensor, if there is one alone and the tensor is no output of the graph."""
        found = self.consumers(tensor)
        return found[0] if len(found) == 1 and tensor not in self.outputs else None

    def constant(self, tensor: str) -> NDArray[np.generic] | None:
        """The value of an initializer; None: it is none."""
        found = next((each for each in self.graph.initializer if each.name == tensor), None)
        return None if found is None else numpy_helper.to_array(found)

    def add_constant(self, wanted: str, value: NDArray[np.generic]) -> str:
        """A new initializer; returns its name."""
        name = self.fresh(wanted)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def insert(self, node: NodeProto, after: NodeProto | None) -> None:
        """Put a node right behind another; None: before all."""
        place = 0 if after is None else self._place(after) + 1
        self.graph.node.insert(place, node)

    def remove(self, node: NodeProto) -> None:
        """Take a node out."""
        del self.graph.node[self._place(node)]

    def read_instead(self, old: str, new: str, *, but: NodeProto | None = None) -> None:
        """Let every reader of `old`, but one, read `new`."""
        spared = None if but is None else tuple(but.output)
        for node in self.graph.node:
            if tuple(node.output) != spared:
                _rename_inputs(node, old, new)

    def live(self) -> set[str]:
        """Tensors that depend on the graph's inputs."""
        found = {value.name for value in self.graph.input}
        for node in self.graph.node:
            if not found.isdisjoint(reads(node)):
                found.update(name for name in node.output if name)
        return found

    def prune(self) -> None:
        """Take out what no output depends on."""
        needed = set(self.outputs)
        kept = []
        for node in reversed(self.graph.node):
            if not needed.isdisjoint(node.output):
                needed.update(reads(node))
                kept.append(node)
        del self.graph.node[:]
        self.graph.node.extend(reversed(kept))
        constants = [each for each in self.graph.initializer if each.name in needed]
        del self.graph.initializer[:]
        self.graph.initializer.extend(constants)

    def _place(self, node: NodeProto) -> int:
        return next(i for i, each in enumerate(self.graph.node) if each.output == node.output)


def reads(node: NodeProto) -> set[str]:
    """Names of the tensors that a node, or a graph inside it, takes from around it."""
    found = {name for name in node.input if name}
    for graph in subgraphs(node):
        inside = {value.name for value in (*graph.input, *graph.initializer)}
        for each in graph.node:
            found |= reads(each) - inside
            inside.update(each.output)
        found |= {value.name for value in graph.output} - inside
    return found


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """The bodies of a loop or a branch."""
    single = [each.g for each in node.attribute if each.HasField("g")]
    return single + [graph for each in node.attribute for graph in each.graphs]


def attribute(node: NodeProto, name: str, default: float) -> float:
    """An attribute that is one number."""
    found = next((each for each in node.attribute if each.name == name), None)
    return default if found is None else float(helper.get_attribute_value(found))


def layer_name(node: NodeProto) -> str:
    """What a node is called by its file: its own name, or else that of what it makes."""
    return node.name or node.output[0]


def element_type(name: int) -> str:
    """An element type in words."""
    return str(onnx.TensorProto.DataType.Name(name)).lower()


def _rename_inputs(node: NodeProto, old: str, new: str) -> None:
    for place, name in enumerate(node.input):
        if name == old:
            node.input[place] = new
    for graph in subgraphs(node):
        if old not in {value.name for value in graph.input}:
            for each in graph.node:
                _rename_inputs(each, old, new)
            for value in graph.output:
                value.name = new if value.name == old else value.name
