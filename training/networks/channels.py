"""What batch norm and ReLU do to the channels of a dense block, as passes over a matrix [rows, channels] of signals.

Four functions, by native code on a processor (`native_channels`) and by Triton on a graphics card
(`triton_channels`). Each takes columns of a larger matrix where it says strided, and makes dense results.
"""

import importlib
from functools import cache
from typing import Protocol

import torch
from torch import Tensor


class Channels(Protocol):
    """Signals are float32 or bfloat16, all of one call alike; factors are float32 [channels], sums float64."""

    def place(self, x: Tensor, into: Tensor) -> Tensor:
        """Copy x to `into` [rows, channels], strided; returns sums of each channel and of its squares, [2, channels].

        Args:
            x: [rows, channels].
            into: changed.
        """

    def activate(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """relu(scale · x + shift) of x, strided."""

    def collect(
        self, g: Tensor, x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, into: Tensor, first: bool
    ) -> Tensor:
        """Add to `into` what of a gradient comes through `activate` and the scale; returns sums [2, channels].

        With dz = g where scale · x + shift > 0, else 0: `into` gets weight · dz, and the sums are of dz and of dz · x.

        Args:
            g: gradient of what `activate` returned.
            x: what it took, strided.
            scale: as it was.
            shift: as it was.
            weight: what of the scale is not the deviation of the channel.
            into: strided, changed; with `first` it is overwritten.
            first: whether nothing is in `into` yet.
        """

    def through(self, g: Tensor, x: Tensor, gain: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
        """Gain · g − slope · x − offset, of strided g and x: the gradient behind a batch norm's mean and deviation."""


@cache
def channels_of(device: torch.device) -> Channels | None:
    """What computes on a device; None where nothing does: no compiler at install, or no Triton."""
    try:
        module = importlib.import_module(f"{__package__}.{'triton' if device.type == 'cuda' else 'native'}_channels")
    except ImportError:
        return None
    found: Channels | None = module.load()
    return found
