"""How a signal lies in memory: what every engine that reads it by address must know."""

import torch
from torch import Tensor

IMAGE_RANK = 4  # [rows, channels, height, width], the rank that has a channels-last layout


def layout(x: Tensor) -> torch.memory_format:
    """The layout that x already has: channels-last only where it is not plain C order too."""
    if x.dim() == IMAGE_RANK and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def dense(x: Tensor) -> Tensor:
    """X itself where it can be read as it lies, else a copy: float32 or bfloat16, without gaps."""
    if x.dtype not in (torch.float32, torch.bfloat16):
        x = x.to(torch.float32)
    return x.contiguous(memory_format=layout(x))
