"""How votes for certificates fell, look by look, so that one run of them answers for every radius.

Votes are pure functions of seed and number. So the votes on an input that were cast to certify one radius are the
first of those that another radius takes, and what either certifies follows from the failures that each look found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.evaluation.engine import Engine
from noisevote.noise_op.contract import sigma_row
from noisevote.voting.certification import CertificateEnd, CertificateRule, look_times
from noisevote.voting.decision import leaders
from noisevote.voting.tally import ballots, count_all, empty_tally

SLICE: Final = 4096  # votes on an input before its path is lengthened, at most, or the next look if that is further


@dataclass
class VotePath:
    """Votes on one input under one seed: the class that the first n0 selected, and the failures of further ones.

    `failures[i]`: new ones between look i − 1 and look i of `look_times(n)`; as many as were reached.
    """

    index: int
    failures: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class PathEnd:
    """Where a rule stopped: `count` votes for the class of `trials`."""

    count: int
    trials: int
    reason: CertificateEnd


@dataclass
class Walk:
    """One input's path as far as it is cast, and what casts more of it: `example` float32 [*shape] and its seed."""

    example: NDArray[np.float32]
    seed: int
    path: VotePath | None = None


def end_of(path: VotePath, rule: CertificateRule) -> PathEnd | None:
    """Where a rule stops on a path; None where it takes further votes."""
    counts = np.cumsum([0, *path.failures]).tolist()
    for trials, failures in zip((0, *_looks(rule.n)), counts, strict=False):
        if (reason := rule.met(trials - failures, trials)) is not None:
            return PathEnd(trials - failures, trials, reason)
    return None


class Walks:
    """Lengthens the paths of several inputs at once; rows of all of them share runs.

    Args:
        engine: the file.
        sigma: standard deviation of the noise at the input.
        n0: selecting votes, before all others.
        classes: of the file's outputs.
    """

    def __init__(self, engine: Engine, sigma: float, n0: int, classes: int) -> None:
        self._engine = engine
        self._sigma = np.array(sigma_row("additive", sigma), np.float32)
        self._n0 = n0
        self._classes = classes

    def lengthen(self, walks: Sequence[Walk], rule: CertificateRule) -> Iterator[int]:
        """Cast votes until the rule stops on every path; yields how many were cast each time paths are whole."""
        if fresh := [walk for walk in walks if walk.path is None]:
            yield self._select(fresh)
        going = [(walk, path) for walk in walks if (path := walk.path) and end_of(path, rule) is None]
        while going:
            yield self._estimate(going, rule)
            # No look that was passed over could have ended it: so says `rule.more`.
            going = [(walk, path) for walk, path in going if not _stops_here(path, rule)]

    def _select(self, walks: Sequence[Walk]) -> int:
        slices = [(walk, 0, self._n0) for walk in walks]
        for walk, logits in zip(walks, self._logits(slices), strict=True):
            tally = empty_tally(1, self._classes)
            count_all(tally, ballots(logits))
            walk.path = VotePath(int(leaders(tally)[0]))
        return self._n0 * len(walks)

    def _estimate(self, walks: Sequence[tuple[Walk, VotePath]], rule: CertificateRule) -> int:
        looks = np.array(_looks(rule.n))
        slices, reached = [], []
        for walk, path in walks:
            upto = _next(path, rule, looks)
            trials = _trials(path, looks)
            slices.append((walk, self._n0 + trials, int(looks[upto]) - trials))
            reached.append(upto)
        for (_, path), logits, upto in zip(walks, self._logits(slices), reached, strict=True):
            begun = len(path.failures)
            failed = np.flatnonzero(ballots(logits).classes != path.index) + _trials(path, looks)
            # The vote after `looks[i]` others is the first that look i + 1 sees.
            places = np.searchsorted(looks, failed, side="right")
            path.failures += np.bincount(places - begun, minlength=upto + 1 - begun).tolist()
        return sum(votes for _, _, votes in slices)

    def _logits(self, slices: Sequence[tuple[Walk, int, int]]) -> list[NDArray[np.float32]]:
        """Logits float32 [votes, classes] of each (walk, first vote, votes)."""
        votes = np.array([votes for _, _, votes in slices])
        owner = np.repeat(np.arange(len(slices)), votes)
        number = np.concatenate([np.arange(first, first + votes) for _, first, votes in slices])
        seeds = np.array([walk.seed for walk, _, _ in slices], np.uint64).view(np.int64)
        parts = []
        for start in range(0, len(owner), self._engine.rows):
            chosen = slice(start, start + self._engine.rows)
            used, row = np.unique(owner[chosen], return_inverse=True)
            examples = np.stack([slices[place][0].example for place in used])
            sigma = np.tile(self._sigma, (len(row), 1))
            parts.append(
                self._engine.logits(Feeds(examples, sigma, seeds[owner[chosen]], number[chosen], row.astype(np.int64)))
            )
        return np.split(np.concatenate(parts), np.cumsum(votes)[:-1])


def _looks(n: int) -> list[int]:
    return [int(look) for look in look_times(n)]


def _stops_here(path: VotePath, rule: CertificateRule) -> bool:
    trials = _trials(path, np.array(_looks(rule.n)))
    return rule.met(trials - sum(path.failures), trials) is not None


def _trials(path: VotePath, looks: NDArray[np.int64]) -> int:
    return int(looks[len(path.failures) - 1]) if path.failures else 0


def _next(path: VotePath, rule: CertificateRule, looks: NDArray[np.int64]) -> int:
    """Place of the look to which a path that goes on is lengthened."""
    trials = _trials(path, looks)
    wanted = trials + rule.more(trials - sum(path.failures), trials)
    return int(np.searchsorted(looks, min(wanted, max(trials + SLICE, int(looks[len(path.failures)])))))
