"""From logits to votes, and votes counted: pure functions on arrays.

Sums of probabilities are kept in fixed point, because integers add up to the same total in whatever
order batches come back; a histogram and its mean probabilities then depend on the votes alone.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Probability 1 in fixed point. Sums of 2³¹ votes fit into an int64, and one vote is rounded by less
# than 2⁻³³, far below the float32 rounding of the logits that it comes from.
ONE: Final = 2**32


@dataclass(frozen=True)
class Ballots:
    """The votes of a batch's rows.

    `classes` int64 [rows] is what each row votes for (equal logits: the lower index), `probabilities`
    int64 [rows, classes] its softmax in fixed point, `finite` bool [rows] whether its logits were numbers, `logits`
    float32 [rows, classes] what it was made of.
    """

    classes: NDArray[np.int64]
    probabilities: NDArray[np.int64]
    finite: NDArray[np.bool_]
    logits: NDArray[np.float32]

    def of(self, rows: slice) -> "Ballots":
        """The same of some rows only."""
        return Ballots(self.classes[rows], self.probabilities[rows], self.finite[rows], self.logits[rows])


@dataclass(frozen=True)
class KeptVotes:
    """The votes themselves, by input and in the order of their numbers, for whoever wants to see each.

    `logits` float32 [inputs, votes, classes]; `cast` bool [inputs, votes] tells which of them have been counted.
    """

    logits: NDArray[np.float32]
    cast: NDArray[np.bool_]

    @property
    def classes(self) -> NDArray[np.int64]:
        """What each vote is for, int64 [inputs, votes]; equal logits: the lower index."""
        return np.asarray(self.logits.argmax(axis=2))

    def keep(self, inputs: NDArray[np.int64], votes: NDArray[np.int64], logits: NDArray[np.float32]) -> None:
        """Put in rows that were counted: of which input each is, and which of its votes, int64 [rows]."""
        self.logits[inputs, votes] = logits
        self.cast[inputs, votes] = True


@dataclass(frozen=True)
class Tally:
    """Votes counted per input.

    `histogram` int64 [inputs, classes] counts votes, `probabilities` int64 [inputs, classes] is the sum of
    their softmax in fixed point. `kept` has the votes themselves where they are wanted.
    """

    histogram: NDArray[np.int64]
    probabilities: NDArray[np.int64]
    kept: KeptVotes | None = None

    def of(self, inputs: NDArray[np.int64]) -> "Tally":
        """The same of some inputs only, int64 [n]."""
        kept = None if self.kept is None else KeptVotes(self.kept.logits[inputs], self.kept.cast[inputs])
        return Tally(self.histogram[inputs], self.probabilities[inputs], kept)

    def since(self, before: "Tally") -> "Tally":
        """The same, but of the votes themselves only those that are not in the tally of `before`."""
        if self.kept is None or before.kept is None:
            return self
        return replace(self, kept=KeptVotes(self.kept.logits, self.kept.cast & ~before.kept.cast))

    def copy(self) -> "Tally":
        """The tally as it is now. Logits are shared, since none changes once its vote is counted."""
        kept = None if self.kept is None else KeptVotes(self.kept.logits, self.kept.cast.copy())
        return Tally(self.histogram.copy(), self.probabilities.copy(), kept)

    @property
    def votes_used(self) -> NDArray[np.int64]:
        """Votes counted, int64 [inputs]."""
        return np.asarray(self.histogram.sum(axis=1))

    def mean_probabilities(self, votes_used: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Mean softmax of the votes, float64 [inputs, classes]; zero where no vote was counted.

        `votes_used` saves the time to count them, where that was done before.
        """
        votes = np.maximum(self.votes_used if votes_used is None else votes_used, 1)
        return self.probabilities / (np.float64(ONE) * votes[:, np.newaxis])


def ballots(logits: NDArray[np.float32]) -> Ballots:
    """The votes of logits float32 [rows, classes]. Rows that are not finite vote for class 0 and say so."""
    finite = np.logical_and.reduce(np.isfinite(logits), axis=1)
    wide = (logits if finite.all() else np.where(finite[:, np.newaxis], logits, 0)).astype(np.float64)
    shares = softmax(wide)
    np.rint(np.multiply(shares, ONE, out=shares), out=shares)
    return Ballots(wide.argmax(axis=1), shares.astype(np.int64), finite, logits)


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Softmax over the last axis, in float64."""
    wide = logits.astype(np.float64, copy=False)
    shares = wide - np.maximum.reduce(wide, axis=-1, keepdims=True)  # each new array would take longer than its numbers
    np.exp(shares, out=shares)
    return np.divide(shares, np.add.reduce(shares, axis=-1, keepdims=True), out=shares)


def empty_tally(inputs: int, classes: int, kept: int = 0) -> Tally:
    """No votes yet; with room to keep so many of each input."""
    votes = KeptVotes(np.zeros((inputs, kept, classes), np.float32), np.zeros((inputs, kept), np.bool_))
    counts = np.zeros((inputs, classes), np.int64), np.zeros((inputs, classes), np.int64)
    return Tally(*counts, votes if kept else None)


def count(tally: Tally, inputs: NDArray[np.int64], votes: Ballots) -> None:
    """Add votes to a tally in place; `inputs` int64 [rows] names the input of each row."""
    np.add.at(tally.histogram, (inputs, votes.classes), 1)
    np.add.at(tally.probabilities, inputs, votes.probabilities)


def count_all(tally: Tally, votes: Ballots) -> None:
    """`count` for a tally of one input, whose all votes are."""
    tally.histogram[0] += np.bincount(votes.classes, minlength=tally.histogram.shape[1])
    tally.probabilities[0] += votes.probabilities.sum(axis=0)
