"""Rewrites a graph of quantised operators so that its signals lie channels-last, as ONNX Runtime's 8-bit kernels want.

ONNX Runtime would do so by itself, but puts a transposition on each side of every node that it does not know, such as
the noise. The operators in this layout are its own (domain com.microsoft); files stay files of any ONNX Runtime.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from noisevote.noise_op.contract import QUANTIZED_OP_TYPE

MICROSOFT: Final = "com.microsoft"
TO_LAST: Final = (0, 2, 3, 1)
TO_FIRST: Final = (0, 3, 1, 2)
IMAGE_RANK: Final = 4


def channels_last(model: onnx.ModelProto) -> None:
    """Rewrite the model in place. What it computes stays the same, bit for bit."""
    rewriting = _Rewriting(model.graph)
    for node in list(model.graph.node):
        rewriting.take(node)
    del model.graph.node[:]
    model.graph.node.extend(rewriting.nodes)


class _Rewriting:
    """The nodes so far, and the signals among them that lie channels-last: `channels` says how many each has."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: list[NodeProto] = []
        self.channels: dict[str, int] = {}
        self._weights = {value.name: value for value in graph.initializer}
        self._uses = [name for node in graph.node for name in node.input]
        self._flattened: dict[str, int] = {}  # matrices whose columns lie channels-last, and the number of channels
        self._takes: Mapping[str, Callable[[NodeProto], None]] = {
            "QLinearConv": self._convolution,
            "MaxPool": self._largest,
            "QLinearAveragePool": self._pool,
            "QLinearGlobalAveragePool": self._pool,
            "QLinearAdd": self._sum,
            "Reshape": self._flatten,
            "Flatten": self._flatten,
            "QGemm": self._product,
            QUANTIZED_OP_TYPE: self._noise,
        }

    def take(self, node: NodeProto) -> None:
        """Append the node, in the layout of its inputs where it can be so."""
        self._takes.get(node.op_type, self._other)(node)

    def _convolution(self, node: NodeProto) -> None:
        if len(self._weights[node.input[3]].dims) != IMAGE_RANK:
            return self._other(node)
        node.input[0] = self._lying_last(node.input[0])
        self._theirs(node, "QLinearConv", channels_last=1)
        self.channels[node.output[0]] = self._weights[node.input[3]].dims[0]
        return None

    def _largest(self, node: NodeProto) -> None:
        if node.input[0] not in self.channels:
            return self._other(node)
        kept = [attribute for attribute in node.attribute if attribute.name != "storage_order"]
        del node.attribute[:]
        node.attribute.extend(kept)
        self._theirs(node, "NhwcMaxPool")
        self._keep(node)
        return None

    def _pool(self, node: NodeProto) -> None:
        if node.input[0] not in self.channels:
            return self._other(node)
        self._theirs(node, node.op_type, channels_last=1)
        self._keep(node)
        return None

    def _noise(self, node: NodeProto) -> None:
        if node.input[0] not in self.channels:
            return self._other(node)
        (layout,) = (attribute for attribute in node.attribute if attribute.name == "channels_last")
        layout.i = 1
        self.nodes.append(node)
        self._keep(node)
        return None

    def _sum(self, node: NodeProto) -> None:
        if node.input[0] not in self.channels and node.input[3] not in self.channels:
            return self._other(node)
        node.input[0], node.input[3] = self._lying_last(node.input[0]), self._lying_last(node.input[3])
        self.nodes.append(node)
        self._keep(node)
        return None

    def _flatten(self, node: NodeProto) -> None:
        """A matrix of rows; if a product alone reads it, its weights are put in order instead of the signal."""
        if node.input[0] in self.channels and self._uses.count(node.output[0]) == 1:
            self._flattened[node.output[0]] = self.channels[node.input[0]]
            self.nodes.append(node)
            return None
        return self._other(node)

    def _product(self, node: NodeProto) -> None:
        channels = self._flattened.get(node.input[0])
        if channels is not None:
            weights = self._weights[node.input[3]]
            transposed = any(attribute.name == "transB" and attribute.i == 1 for attribute in node.attribute)
            matrix = numpy_helper.to_array(weights)
            in_order = _inputs_last(matrix.T if transposed else matrix, channels)
            stored = np.ascontiguousarray(in_order.T if transposed else in_order)
            weights.CopyFrom(numpy_helper.from_array(stored, weights.name))
        self.nodes.append(node)

    def _other(self, node: NodeProto) -> None:
        """A node that knows only channels-first."""
        for place, name in enumerate(node.input):
            if name in self.channels:
                node.input[place] = self._transposed(name, TO_FIRST)
        self.nodes.append(node)

    def _theirs(self, node: NodeProto, op_type: str, **attributes: int) -> None:
        node.op_type, node.domain = op_type, MICROSOFT
        stale = [attribute for attribute in node.attribute if attribute.name not in attributes]
        del node.attribute[:]
        node.attribute.extend([*stale, *(helper.make_attribute(name, value) for name, value in attributes.items())])
        self.nodes.append(node)

    def _keep(self, node: NodeProto) -> None:
        self.channels[node.output[0]] = self.channels[node.input[0]]

    def _lying_last(self, name: str) -> str:
        return name if name in self.channels else self._transposed(name, TO_LAST)

    def _transposed(self, name: str, order: tuple[int, ...]) -> str:
        made = f"{name}_{'last' if order == TO_LAST else 'first'}"
        if all(made not in node.output for node in self.nodes):
            self.nodes.append(helper.make_node("Transpose", [name], [made], perm=order))
        return made


def _inputs_last(weights: NDArray[np.int8], channels: int) -> NDArray[np.int8]:
    """Weights [channels × positions, outputs] as [positions × channels, outputs]."""
    by_channel = weights.reshape(channels, -1, weights.shape[1])
    return by_channel.transpose(1, 0, 2).reshape(weights.shape)
