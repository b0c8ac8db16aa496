"""What counted votes decide about each input."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisevote.voting.bounds import binomial_p, clopper_pearson
from noisevote.voting.tally import Tally


@dataclass(frozen=True)
class Decisions:
    """What the votes decide, per input: see `decide`."""

    index: NDArray[np.int64]
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
    ordered = np.sort(tally.histogram, axis=1)
    first, second, total = ordered[:, -1], ordered[:, -2], tally.votes_used
    return Decisions(
        index=leaders(tally),
        vote_share=first / total,
        lower_bound=clopper_pearson(first, total, alpha),
        abstain=binomial_p(first, second) > alpha,
    )
