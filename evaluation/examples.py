"""Labelled examples in memory."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Labelled(Protocol):
    """Labelled inputs, wherever they lie."""

    @property
    def labels(self) -> NDArray[np.integer[Any]]:
        """Of all inputs, [n]."""

    def __len__(self) -> int:
        """How many they are."""

    def values(self, chosen: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """What the network takes of the chosen ones: float32 [chosen, *input_shape] in its value range."""

    def some(self, chosen: NDArray[np.int64]) -> "Labelled":
        """The chosen ones alone, int64 [m]."""


@dataclass(frozen=True)
class Examples:
    """Inputs as they are stored, uint8 or float32 [n, *input_shape], and their labels, integers [n] of any width.

    Bytes stand for [0, 1] (images [n, channels, height, width]); float32 is what the network takes, as it is.
    """

    inputs: NDArray[np.uint8] | NDArray[np.float32]
    labels: NDArray[np.integer[Any]]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> "Examples":
        """The first `count` examples."""
        return Examples(self.inputs[:count], self.labels[:count])

    def last(self, count: int) -> "Examples":
        """The last `count` examples."""
        start = max(0, len(self) - count)
        return Examples(self.inputs[start:], self.labels[start:])

    def some(self, chosen: NDArray[np.int64]) -> "Examples":
        """The chosen ones alone, int64 [m]."""
        return Examples(self.inputs[chosen], self.labels[chosen])

    def values(self, chosen: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what the network takes of the chosen examples: float32 [chosen, *input_shape] in its value range."""
        stored = self.inputs[chosen]
        if stored.dtype == np.uint8:
            return stored.astype(np.float32) / np.float32(255)
        return stored.astype(np.float32, copy=False)
