"""From logits to votes, from votes to decisions: pure functions on arrays.

Sums of probabilities are kept in fixed point, because integers add up to the same total in whatever
order batches come back; a histogram and its mean probabilities then depend on the votes alone.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from noisevote.voting.bounds import clopper_pearson

# Probability 1 in fixed point. Sums of 2³¹ votes fit into an int64, and one vote is rounded by less
# than 2⁻³³, far below the float32 rounding of the logits that it comes from.
ONE: Final = 2**32


@dataclass(frozen=True)
class Ballots:
    """The votes of a batch's rows.

    `classes` int64 [rows] is what each row votes for (equal logits: the lower index), `probabilities`
    int64 [rows, classes] its softmax in fixed point, `finite` bool [rows] whether its logits were numbers.
    """

    classes: NDArray[np.int64]
    probabilities: NDArray[np.int64]
    finite: NDArray[np.bool_]


@dataclass(frozen=True)
class Tally:
    """Votes counted per input.

    `histogram` int64 [inputs, classes] counts votes, `probabilities` int64 [inputs, classes] is the sum of
    their softmax in fixed point.
    """

    histogram: NDArray[np.int64]
    probabilities: NDArray[np.int64]

    @property
    def votes_used(self) -> NDArray[np.int64]:
        """Votes counted, int64 [inputs]."""
        return np.asarray(self.histogram.sum(axis=1))

    def mean_probabilities(self) -> NDArray[np.float64]:
        """Mean softmax of the votes, float64 [inputs, classes]; zero where no vote was counted."""
        votes = np.maximum(self.votes_used, 1)
        return self.probabilities / (np.float64(ONE) * votes[:, np.newaxis])


@dataclass(frozen=True)
class Decisions:
    """What the votes decide, per input: see `decide`."""

    index: NDArray[np.int64]
    vote_share: NDArray[np.float64]
    lower_bound: NDArray[np.float64]
    abstain: NDArray[np.bool_]


def ballots(logits: NDArray[np.float32]) -> Ballots:
    """The votes of logits float32 [rows, classes]. Rows that are not finite vote for class 0 and say so."""
    finite = np.asarray(np.isfinite(logits).all(axis=1))
    wide = np.where(finite[:, np.newaxis], logits, 0).astype(np.float64)
    exponentials = np.exp(wide - wide.max(axis=1, keepdims=True))
    shares = exponentials / exponentials.sum(axis=1, keepdims=True)
    return Ballots(wide.argmax(axis=1), np.rint(shares * ONE).astype(np.int64), finite)


def empty_tally(inputs: int, classes: int) -> Tally:
    """No votes yet."""
    return Tally(np.zeros((inputs, classes), np.int64), np.zeros((inputs, classes), np.int64))


def count(tally: Tally, inputs: NDArray[np.int64], votes: Ballots) -> None:
    """Add votes to a tally in place; `inputs` int64 [rows] names the input of each row."""
    np.add.at(tally.histogram, (inputs, votes.classes), 1)
    np.add.at(tally.probabilities, inputs, votes.probabilities)


def count_all(tally: Tally, votes: Ballots) -> None:
    """`count` for a tally of one input, whose all votes are."""
    tally.histogram[0] += np.bincount(votes.classes, minlength=tally.histogram.shape[1])
    tally.probabilities[0] += votes.probabilities.sum(axis=0)


def decide(tally: Tally, alpha: float) -> Decisions:
    """The mode of each histogram, with what can be said about it; every input must have a vote.

    Ties go to the larger mean probability, then to the lower index. `lower_bound` is Clopper and
    Pearson's exact one-sided bound: a class fixed beforehand that got k of n votes has at least this
    probability with confidence 1 − alpha. (The decision is picked by the same votes, so for it the
    bound is a description, not yet a certificate.) `abstain` tells that a two-sided binomial test at
    level alpha cannot tell the first class from the second (Cohen, Rosenfeld and Kolter 2019,
    section 3.2.2, PREDICT), so that a decision given without it is wrong about the mode with
    probability at most alpha.
    """
    tied = tally.histogram == tally.histogram.max(axis=1, keepdims=True)
    index = np.where(tied, tally.probabilities, -1).argmax(axis=1)
    ordered = np.sort(tally.histogram, axis=1)
    first, second, total = ordered[:, -1], ordered[:, -2], tally.votes_used
    return Decisions(
        index=index,
        vote_share=first / total,
        lower_bound=clopper_pearson(first, total, alpha),
        abstain=binomial_p(first, second) > alpha,
    )


def binomial_p(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Two-sided p value of `first` successes in `first + second` fair trials, where first ≥ second.

    P(X ≥ first) is the regularised incomplete beta function I½(first, second + 1).
    """
    upper = special.betainc(np.maximum(first, 1), second + 1, 0.5)
    return np.asarray(np.minimum(1.0, 2.0 * upper))
