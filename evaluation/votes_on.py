"""The votes on one input, computed alone from a published file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds

RUN_ROWS: Final = 64


class Runs(Protocol):
    """Computes logits."""

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Logits float32 [rows, classes]."""


@dataclass(frozen=True)
class VotesOn:
    """Votes on `example` float32 [*shape] under one seed, at the operator's (multiplicative, additive) `sigma`."""

    session: Runs
    example: NDArray[np.float32]
    sigma: tuple[float, float]
    seed: int

    def logits(self, first: int, votes: int) -> Iterator[NDArray[np.float32]]:
        """Of votes `first` … `first` + `votes` − 1: float32 [n, classes], some at a time."""
        for start in range(first, first + votes, RUN_ROWS):
            yield self.session.run(self._feeds(np.arange(start, min(start + RUN_ROWS, first + votes), dtype=np.int64)))

    def _feeds(self, numbers: NDArray[np.int64]) -> Feeds:
        rows = len(numbers)
        sigma = np.tile(np.array(self.sigma, np.float32), (rows, 1))
        seed = np.full(rows, self.seed, np.uint64).view(np.int64)
        return Feeds(self.example[np.newaxis], sigma, seed, numbers, np.zeros(rows, np.int64))
