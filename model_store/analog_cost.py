"""What V votes with R reads of each of L noisy layers cost analog hardware (Qin and Vučinić, section 3.3).

A vote repeats the whole network, a read repeats one layer; both take one matrix-vector product a layer.
The functions take numbers or integer arrays of the same shape.
"""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Execution = Literal["sequential", "pipelined", "parallel"]
Counts = TypeVar("Counts", int, NDArray[np.int64])


def products(votes: Counts, reads: Counts, layers: Counts) -> Counts:
    """Matrix-vector products: V·R·L."""
    return votes * reads * layers


def latency(execution: Execution, votes: Counts, reads: Counts, layers: Counts) -> Counts:
    """Layer times from the first product to the last.

    `sequential`: one product after another, V·R·L. `pipelined`: each layer has an array of its own and runs
    follow one another, V·R + L − 1. `parallel`: each run has arrays of its own, L.
    """
    if execution == "sequential":
        return products(votes, reads, layers)
    if execution == "pipelined":
        return votes * reads + layers - 1
    return layers
