"""What a published graph is fed with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Feeds:
    """Inputs of a published graph; see docs/architecture.md, "Sessions and rows".

    `input` float32 [N, *shape]; what R rows draw with: `sigma` float32 [R, 2], multiplicative and additive, `seed`
    int64 [R], `vote` int64 [R]; `row` int64 [R] names the input that each row reads.
    """

    input: NDArray[np.float32]
    sigma: NDArray[np.float32]
    seed: NDArray[np.int64]
    vote: NDArray[np.int64]
    row: NDArray[np.int64]

    def rows(self, wanted: NDArray[np.int64]) -> "Feeds":
        """Some of the rows, with all inputs."""
        return Feeds(self.input, self.sigma[wanted], self.seed[wanted], self.vote[wanted], self.row[wanted])

    def as_dict(self) -> dict[str, NDArray[np.generic]]:
        """By the graph's input names."""
        return {"input": self.input, "sigma": self.sigma, "seed": self.seed, "vote": self.vote, "row": self.row}
