"""What counted votes decide about each input."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.voting.bounds import binomial_p, clopper_pearson
from noisevote.voting.tally import Tally

# Counts of votes whose bounds are remembered: those of all requests with 20 votes are a few hundred.
COUNTS_KEPT: Final = 4096


@dataclass(frozen=True)
class Decisions:
    """What the votes decide, per input: see `decide`."""

    index: NDArray[np.int64]
    votes_used: NDArray[np.int64]
    vote_share: NDArray[np.float64]
    lower_bound: NDArray[np.float64]
    abstain: NDArray[np.bool_]


def leaders(tally: Tally) -> NDArray[np.int64]:
    """The decision on each input, int64 [inputs]: the mode of its votes.

    Ties go to the larger mean probability, then to the lower index.
    """
    tied = tally.histogram == tally.histogram.max(axis=1, keepdims=True)
    return np.asarray(np.where(tied, tally.probabilities, -1).argmax(axis=1))


def decide(tally: Tally, alpha: float) -> Decisions:
    """The mode of each histogram, with what can be said about it; every input must have a vote.

    `leaders` says how ties are broken. `lower_bound` is Clopper and
    Pearson's exact one-sided bound: a class fixed beforehand that got k of n votes has at least this
    probability with confidence 1 − alpha. (The decision is picked by the same votes, so for it the
    bound is a description, not yet a certificate.) `abstain` tells that a two-sided binomial test at
    level alpha cannot tell the first class from the second (Cohen, Rosenfeld and Kolter 2019,
    section 3.2.2, PREDICT), so that a decision given without it is wrong about the mode with
    probability at most alpha.
    """
    return _decide_one(tally, alpha) if len(tally.histogram) == 1 else _decide_all(tally, alpha)


def _decide_all(tally: Tally, alpha: float) -> Decisions:
    ordered = np.sort(tally.histogram, axis=1)
    first, second, total = ordered[:, -1], ordered[:, -2], tally.votes_used
    return Decisions(
        index=leaders(tally),
        votes_used=total,
        vote_share=first / total,
        lower_bound=clopper_pearson(first, total, alpha),
        abstain=binomial_p(first, second) > alpha,
    )


def _decide_one(tally: Tally, alpha: float) -> Decisions:
    """`_decide_all` of one input, the usual case, in a quarter of the time: array operations take a microsecond."""
    votes = tally.histogram[0].tolist()
    *_, second, first = sorted(votes)
    index = votes.index(first)
    if first == second:
        index = int(leaders(tally)[0])
    total = sum(votes)
    bound, abstain = _said_of(first, second, total, alpha)
    found = (index, total, first / total, bound, abstain)
    return Decisions(*map(np.array, zip(found, strict=True)))  # an array of one number each


@lru_cache(maxsize=COUNTS_KEPT)
def _said_of(first: int, second: int, total: int, alpha: float) -> tuple[float, bool]:
    """Lower bound and abstention of an input where so many of all votes are for the first and the second class."""
    leading, total_, rival = (np.array([count], np.int64) for count in (first, total, second))
    bound, p = clopper_pearson(leading, total_, alpha), binomial_p(leading, rival)
    return float(bound[0]), bool(p[0] > alpha)
