"""Which version of the operator a file draws with, and the same file with the draws of another one."""

from collections.abc import Iterator
from typing import Final

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, helper

from noisevote.noise_op.contract import DOMAIN, OP_TYPE, OP_VERSIONS, QUANTIZED_OP_TYPE, OperatorVersion
from noisevote.noise_op.function_body import (
    DRAWS,
    drawing_attributes,
    gaussian_noise_function,
    quantized_noise_function,
)

_FUNCTIONS: Final = {OP_TYPE: gaussian_noise_function, QUANTIZED_OP_TYPE: quantized_noise_function}
_SAID: Final = "operator_version"  # the key of a file's metadata


class MixedDrawsError(ValueError):
    """Nodes of one file draw with different versions of the operator, or with one that does not exist."""


def noise_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """All nodes of the operator, in loop bodies too."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from noise_nodes(attribute.g)
        if node.domain == DOMAIN and node.op_type in _FUNCTIONS:
            yield node


def operator_version(model: ModelProto) -> OperatorVersion:
    """The version that all noise of a file is drawn with; 1 where it has none.

    Raises:
        MixedDrawsError: there is no one such version.
    """
    said = {_draws(node) for node in noise_nodes(model.graph)} or {1}
    for version in OP_VERSIONS:
        if said == {version}:
            return version
    raise MixedDrawsError(f"{DRAWS}: nodes say {sorted(said)}; all of a file draw with one version, of {OP_VERSIONS}")


def draw_with(model: ModelProto, version: OperatorVersion) -> None:
    """Have all noise of a file drawn with that version: its nodes, the functions it carries, and what it says."""
    for node in noise_nodes(model.graph):
        kept = [attribute for attribute in node.attribute if attribute.name != DRAWS]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.extend(helper.make_attribute(*each) for each in drawing_attributes(version).items())
    for function in model.functions:
        _replace(function, version)
    for opset in model.opset_import:
        if opset.domain == DOMAIN:
            opset.version = version
    for entry in model.metadata_props:
        if entry.key == _SAID:
            entry.value = str(version)


def _draws(node: NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == DRAWS), 1)


def _replace(function: FunctionProto, version: OperatorVersion) -> None:
    if function.domain == DOMAIN and function.name in _FUNCTIONS:
        function.CopyFrom(_FUNCTIONS[function.name](version))
