"""Batch norms multiplied into the products before them: exact, as noise comes after the norm."""

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from noisevote.noise_op.onnx_graph import OnnxGraph, attribute

Array = NDArray[np.float64]


def fold_norms(graph: OnnxGraph) -> int:
    """Fold every batch norm that alone reads a product with constant weights; returns how many."""
    folded = 0
    for node in list(graph.graph.node):
        product = graph.producer(node.input[0]) if node.op_type == "BatchNormalization" else None
        if product is not None and graph.only_consumer(node.input[0]) is not None and _fold(graph, product, node):
            folded += 1
    return folded


def _fold(graph: OnnxGraph, product: NodeProto, norm: NodeProto) -> bool:
    statistics = [graph.constant(name) for name in norm.input[1:5]]
    weights = graph.constant(product.input[1]) if len(product.input) > 1 else None
    bias_name = product.input[2] if len(product.input) > 2 and product.input[2] else None
    bias = None if bias_name is None else graph.constant(bias_name)
    if weights is None or any(each is None for each in statistics) or (bias_name is not None and bias is None):
        return False
    scale, shift, mean, variance = (np.asarray(each, np.float64) for each in statistics)
    factor = scale / np.sqrt(variance + _epsilon(norm))
    scaled = _scaled(product, np.asarray(weights, np.float64), factor)
    old_bias = np.zeros_like(shift) if bias is None else np.asarray(bias, np.float64)
    if scaled is None or not _shaped_like_channels(old_bias, shift):
        return False
    new_bias = shift + (np.broadcast_to(old_bias.reshape(-1), shift.shape) - mean) * factor
    return _replace(graph, product, norm, scaled.astype(np.float32), new_bias.astype(np.float32))


def _shaped_like_channels(bias: Array, channels: Array) -> bool:
    return bias.size in {1, channels.size}


def _scaled(product: NodeProto, weights: Array, factor: Array) -> Array | None:
    """The weights times the factor of their output channel; None: this product is not folded."""
    channels = len(factor)
    match product.op_type:
        case "Conv" if len(weights) == channels:
            return weights * factor.reshape(-1, *[1] * (weights.ndim - 1))
        case "ConvTranspose":
            groups = int(attribute(product, "group", 1))
            if weights.shape[1] * groups != channels:
                return None
            grouped = weights.reshape(groups, -1, *weights.shape[1:])  # [groups, in, out, …]
            return np.asarray(
                (grouped * factor.reshape(groups, 1, -1, *[1] * (weights.ndim - 2))).reshape(weights.shape)
            )
        case "Gemm" if attribute(product, "beta", 1) == 1 and weights.ndim == 2:
            transposed = attribute(product, "transB", 0)
            return weights * (factor[:, np.newaxis] if transposed else factor[np.newaxis])
    return None


def _epsilon(norm: NodeProto) -> float:
    return attribute(norm, "epsilon", 1e-5)


def _replace(
    graph: OnnxGraph, product: NodeProto, norm: NodeProto, weights: NDArray[np.float32], bias: NDArray[np.float32]
) -> bool:
    signal = product.input[0]
    kept = [signal, graph.add_constant(f"{product.input[1]}_folded", weights)]
    kept.append(graph.add_constant(f"{product.input[1]}_folded_bias", bias))
    del product.input[:]
    product.input.extend(kept)
    after = norm.output[0]
    graph.remove(norm)
    product.output[0] = after
    return True
