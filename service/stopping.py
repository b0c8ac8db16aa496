"""When an input has votes enough.

A rule is asked for the least number of further votes after which it could possibly stop. Those are
cast, then it is asked again. A rule never sees an input while votes of it are under way, so what it
decides depends on the histogram alone, never on how the votes were cut into batches.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

# Logarithms of thresholds are trusted beyond this distance: gammaln is good to a few parts in 10¹⁶ of
# its value, which is below 10⁷ for a million votes. Within it, integers decide.
LOG_TOLERANCE: Final = 1e-7
LOG_2: Final = math.log(2)


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


@dataclass(frozen=True)
class Exact:
    """Until the decision can no longer differ from the whole budget's.

    That is so when the leader is ahead of every rival by more votes than remain. A lead equal to them
    could still end in a tie, which mean probabilities would decide, so it is not enough.
    """

    def more(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.int64]:
        """With lead d and m votes left, the least n with d + n > m − n: each vote for the leader counts twice."""
        first, second, left = _standing(histogram, votes)
        open_votes = left - (first - second)
        return np.where(open_votes < 0, 0, np.minimum(open_votes // 2 + 1, left))


@dataclass(frozen=True)
class Confidence:
    """Until the mode is known with error at most `delta`, 0 < delta < 1.

    PPR-1v1 (Jain et al., "PAC mode estimation using PPR martingale confidence sequences", AISTATS 2022):
    with K classes, stop when 2^(a+b)·a!·b!/(a+b+1)! ≥ (K − 1)/delta for the leader's a votes and the b votes
    of every rival. The left side is the prior-posterior ratio of a fair pair under a uniform prior, a
    martingale, so that looking after every vote costs nothing (Ville's inequality). At the budget it stops
    anyway, and what is decided there without the condition carries no such bound.
    """

    delta: float

    def more(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.int64]:
        """The least n such that n votes more for the leader would do, by bisection over all inputs at once.

        The ratio falls with b ≤ a and never falls with a ≥ b, so the runner-up stands for every rival,
        and no other way to spend n votes gets further.
        """
        first, second, left = _standing(histogram, votes)
        rivals = histogram.shape[1] - 1
        low, high = np.zeros_like(left), left
        while (searching := low < high).any():
            middle = (low + high) // 2
            enough = self._enough(first + middle, second, rivals)
            high = np.where(searching & enough, middle, high)
            low = np.where(searching & ~enough, middle + 1, low)
        return low

    def _enough(self, a: NDArray[np.int64], b: NDArray[np.int64], rivals: int) -> NDArray[np.bool_]:
        ratio = (a + b) * LOG_2 + special.gammaln(a + 1) + special.gammaln(b + 1) - special.gammaln(a + b + 2)
        beyond = ratio - (math.log(rivals) - math.log(self.delta))
        enough = np.asarray(beyond >= 0)
        for i in np.flatnonzero(np.abs(beyond) < LOG_TOLERANCE):
            enough[i] = self._exactly_enough(int(a[i]), int(b[i]), rivals)
        return enough

    def _exactly_enough(self, a: int, b: int, rivals: int) -> bool:
        """The same in integers: 2^(a+b)·delta ≥ (K − 1)·(a+b+1)!/(a!·b!)."""
        return bool(Fraction(self.delta) * 2 ** (a + b) >= rivals * (a + b + 1) * math.comb(a + b, b))


def _standing(
    histogram: NDArray[np.int64], votes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Votes of the leader and of the runner-up, and votes left of the budget; each int64 [inputs]."""
    ordered = np.sort(histogram, axis=1)
    return ordered[:, -1], ordered[:, -2], np.asarray(votes - histogram.sum(axis=1))
