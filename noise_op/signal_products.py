"""Attention whose products of two signals are analog: by choice, as most analog hardware multiplies by weights."""

import math
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import dropout, softmax

from noisevote.noise_op.products import operation
from noisevote.noise_op.torch_twin import GaussianNoise


def is_attention(node: fx.Node) -> bool:
    """Whether a node is torch's fused attention."""
    return operation(node) == "scaled_dot_product_attention"


class AnalogAttention(nn.Module):
    """softmax(QKᵀ·scale + mask) V, with noise on QKᵀ and on the answer."""

    def __init__(self, scores: GaussianNoise, values: GaussianNoise) -> None:
        super().__init__()
        self.scores = scores
        self.values = values

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Any:  # fmt: skip  # the arguments of torch's own
        """As `torch.nn.functional.scaled_dot_product_attention`, [rows, heads, queries, features]."""
        if enable_gqa:
            raise ValueError("enable_gqa: grouped queries are not computed here")
        factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        scores = self.scores(query @ key.transpose(-2, -1)) * factor
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None:
            masked = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -math.inf) if masked else scores + attn_mask
        return self.values(dropout(softmax(scores, dim=-1), dropout_p, training=True) @ value)
