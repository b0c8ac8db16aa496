"""Splits a request into parts that can be computed anywhere, and merges their votes. Pure.

Input i of a request draws with seed + i, and votes have numbers, so a part is a request of its own: some of the
inputs, or under the rule `fixed` some of the votes. Votes are counted and probabilities summed in integers, so the
sum is bit for bit what one process would have counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from noisevote.service.scheduling.request import VoteRequest
from noisevote.voting.stopping import Fixed
from noisevote.voting.tally import Tally, empty_tally

SEEDS = 2**64


class Standing(NamedTuple):
    """Votes counted so far, and of which inputs all votes that the rule wanted are counted, bool [inputs]."""

    tally: Tally
    complete: NDArray[np.bool_]

    @property
    def votes(self) -> int:
        """Votes counted over all inputs."""
        return int(self.tally.histogram.sum())


@dataclass(frozen=True, eq=False)
class Part:
    """Part of a request, itself a request; `inputs` are those of the whole that it has votes on."""

    request: VoteRequest
    inputs: slice


def split(whole: VoteRequest, most_rows: int) -> tuple[Part, ...]:
    """Split a request into parts of about equal size and at most `most_rows` rows, or one part with all of it.

    A rule other than `fixed` looks at an input's votes before it asks for more, so there an input stays in one
    part, however many votes it may take.
    """
    if whole.rows <= most_rows:
        return (Part(whole, slice(0, len(whole.inputs))),)
    by_votes = isinstance(whole.rule, Fixed)
    return tuple(
        _part(whole, inputs, votes)
        for inputs in _level(len(whole.inputs), max(1, most_rows // whole.votes))
        for votes in (_level(whole.votes, most_rows) if by_votes else [slice(0, whole.votes)])
    )


def merge(whole: VoteRequest, parts: Sequence[Part], standings: Sequence[Standing | None]) -> Standing:
    """Add up the votes of a request's parts; None stands for a part of which nothing is known yet."""
    tally = empty_tally(len(whole.inputs), whole.classes, whole.votes if whole.keeps_votes else 0)
    complete = np.ones(len(whole.inputs), np.bool_)
    for part, standing in zip(parts, standings, strict=True):
        if standing is None:
            complete[part.inputs] = False
            continue
        tally.histogram[part.inputs] += standing.tally.histogram
        tally.probabilities[part.inputs] += standing.tally.probabilities
        if tally.kept is not None and standing.tally.kept is not None:
            first = part.request.first_vote - whole.first_vote
            tally.kept.logits[part.inputs, first : first + part.request.votes] = standing.tally.kept.logits
            tally.kept.cast[part.inputs, first : first + part.request.votes] = standing.tally.kept.cast
        complete[part.inputs] &= standing.complete
    return Standing(tally, complete)


def _part(whole: VoteRequest, inputs: slice, votes: slice) -> Part:
    request = replace(
        whole,
        inputs=whole.inputs[inputs],
        seed=(whole.seed + inputs.start) % SEEDS,
        votes=votes.stop - votes.start,
        first_vote=whole.first_vote + votes.start,
    )
    return Part(request, inputs)


def _level(total: int, most: int) -> Iterator[slice]:
    """Cut 0 … total into as few runs of at most `most` as possible, whose lengths differ by one at most."""
    runs = -(-total // most)
    for run in range(runs):
        yield slice(total * run // runs, total * (run + 1) // runs)
