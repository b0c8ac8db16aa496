"""When an input has votes enough.

A rule is asked for the least number of further votes after which it could possibly stop. Those are
cast, then it is asked again. A rule never sees an input while votes of it are under way, so what it
decides depends on the histogram alone, never on how the votes were cut into batches.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class StopRule(Protocol):
    """A stopping rule: frozen, and the same answer for the same histogram."""

    def more(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.int64]:
        """Further votes to cast before the rule is asked again; 0: stop.

        Args:
            histogram: votes so far, int64 [inputs, classes].
            votes: the budget. A rule never asks for more than what is left of it, and asks for
                at least one vote where there is none yet.

        Returns:
            int64 [inputs].
        """


@dataclass(frozen=True)
class Fixed:
    """The whole budget."""

    def more(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.int64]:
        """All that is left."""
        return np.asarray(votes - histogram.sum(axis=1))
