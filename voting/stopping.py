"""When an input has votes enough.

A rule is asked for the least number of further votes after which it could possibly stop. Those are
cast, then it is asked again. A rule never sees an input while votes of it are under way, so what it
decides depends on the histogram alone, never on how the votes were cut into batches.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import ClassVar, Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

# Logarithms of thresholds are trusted beyond this distance: lgamma is good to a few parts in 10¹⁶ of
# its value, which is below 10⁷ for a million votes. Within it, integers decide.
LOG_TOLERANCE: Final = 1e-7
LOG_2: Final = math.log(2)

RuleName = Literal["fixed", "exact", "confidence"]
RULE_NAMES: Final[tuple[RuleName, ...]] = get_args(RuleName)


class StopRule(Protocol):
    """A stopping rule: frozen, and the same answer for the same histogram."""

    @property
    def name(self) -> str:
        """What requests and metrics call it."""

    def more(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.int64]:
        """Further votes to cast before the rule is asked again; 0: stop.

        Args:
            histogram: votes so far, int64 [inputs, classes].
            votes: the budget. A rule never asks for more than what is left of it, and asks for
                at least one vote where there is none yet.

        Returns:
            int64 [inputs].
        """

    def met(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.bool_]:
        """Where the rule's own condition holds, rather than the budget having run out; bool [inputs]."""


@dataclass(frozen=True)
class Fixed:
    """The whole budget."""

    name: ClassVar[RuleName] = "fixed"

    def more(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.int64]:
        """All that is left."""
        return np.asarray(votes - histogram.sum(axis=1))

    def met(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.bool_]:  # noqa: ARG002  # the protocol's
        """Nowhere: there is no condition but the budget."""
        return np.zeros(len(histogram), np.bool_)


@dataclass(frozen=True)
class Exact:
    """Until the decision can no longer differ from the whole budget's.

    That is so when the leader is ahead of every rival by more votes than remain. A lead equal to them
    could still end in a tie, which mean probabilities would decide, so it is not enough.
    """

    name: ClassVar[RuleName] = "exact"

    def more(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.int64]:
        """With lead d and m votes left, the least n with d + n > m − n: each vote for the leader counts twice."""
        first, second, left = _standing(histogram, votes)
        open_votes = left - (first - second)
        return np.where(open_votes < 0, 0, np.minimum(open_votes // 2 + 1, left))

    def met(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.bool_]:
        """Where the leader is out of reach though votes are left."""
        first, second, left = _standing(histogram, votes)
        return np.asarray((left > 0) & (first - second > left))


@dataclass(frozen=True)
class Confidence:
    """Until the mode is known with error at most `delta`, 0 < delta < 1.

    PPR-1v1 (Jain et al., "PAC mode estimation using PPR martingale confidence sequences", AISTATS 2022):
    with K classes, stop when 2^(a+b)·a!·b!/(a+b+1)! ≥ (K − 1)/delta for the leader's a votes and the b votes
    of every rival. The left side is the prior-posterior ratio of a fair pair under a uniform prior, a
    martingale, so that looking after every vote costs nothing (Ville's inequality). At the budget it stops
    anyway, and what is decided there without the condition carries no such bound.
    """

    name: ClassVar[RuleName] = "confidence"
    delta: float

    def more(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.int64]:
        """The least n such that n votes more for the leader would do.

        The ratio falls with b ≤ a and never falls with a ≥ b, so the runner-up stands for every rival,
        and no other way to spend n votes gets further.
        """
        first, second, left = _standing(histogram, votes)
        return np.asarray(np.clip(self._least_leader(histogram, second) - first, 0, left))

    def met(self, histogram: NDArray[np.int64], votes: int) -> NDArray[np.bool_]:
        """Where the mode is known with error at most `delta`."""
        first, second, _ = _standing(histogram, votes)
        return np.asarray(first >= self._least_leader(histogram, second))

    def _least_leader(self, histogram: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
        rivals = histogram.shape[1] - 1
        return np.array([least_leader(b, rivals, self.delta) for b in second.tolist()], np.int64)


# Histograms of a few hundred votes have few different runners-up, and requests few different deltas.
@lru_cache(maxsize=65536)
def least_leader(b: int, rivals: int, delta: float) -> int:
    """The fewest votes a ≥ b of the leader with 2^(a+b)·a!·b!/(a+b+1)! ≥ rivals/delta, by bisection."""
    gap = 1
    while not _enough(b + gap, b, rivals, delta):
        gap *= 2
    low, high = b, b + gap
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _enough(middle, b, rivals, delta) else (middle + 1, high)
    return low


def _enough(a: int, b: int, rivals: int, delta: float) -> bool:
    ratio = (a + b) * LOG_2 + math.lgamma(a + 1) + math.lgamma(b + 1) - math.lgamma(a + b + 2)
    beyond = ratio - (math.log(rivals) - math.log(delta))
    return beyond >= 0 if abs(beyond) > LOG_TOLERANCE else _exactly_enough(a, b, rivals, delta)


def _exactly_enough(a: int, b: int, rivals: int, delta: float) -> bool:
    """The same in integers: 2^(a+b)·delta ≥ (K − 1)·(a+b+1)!/(a!·b!)."""
    return bool(Fraction(delta) * 2 ** (a + b) >= rivals * (a + b + 1) * math.comb(a + b, b))


def _standing(
    histogram: NDArray[np.int64], votes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Votes of the leader and of the runner-up, and votes left of the budget; each int64 [inputs]."""
    ordered = np.sort(histogram, axis=1)
    return ordered[:, -1], ordered[:, -2], np.asarray(votes - histogram.sum(axis=1))
