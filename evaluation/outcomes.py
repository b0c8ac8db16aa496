"""On which examples the votes decided right: what two files are compared by, example by example."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from noisevote.evaluation.cell_arrays import CellArrays, cell_key
from noisevote.evaluation.plan import Noise
from noisevote.evaluation.scores import VOTE_COUNTS, group_tally
from noisevote.voting.decision import leaders
from noisevote.voting.tally import Ballots

LEVEL_95: Final = 1.96  # standard errors on either side


@dataclass(frozen=True)
class Outcomes:
    """How often each example was decided right in each cell, kept beside the results. It watches an evaluation.

    Args:
        kept: where; an array for each of the usual numbers of votes.
        labels: int [examples].
    """

    kept: CellArrays
    labels: NDArray[np.integer[Any]]

    @classmethod
    def beside(cls, file: Path, labels: NDArray[np.integer[Any]], sha256: str) -> "Outcomes":
        """What was kept of exactly this measured file and number of examples; else nothing yet."""
        return cls(CellArrays.beside(file, len(labels), sha256), labels)

    def votes(self, noise: Noise, chosen: slice, cast: Ballots) -> None:
        """Count the right decisions on some examples."""
        labels = self.labels[chosen, np.newaxis]
        passes = len(cast.classes) // len(labels)
        found = self.kept.cells.setdefault(cell_key(noise), {})
        for count in VOTE_COUNTS:
            if count > passes:
                break
            if f"{count}" not in found:
                found[f"{count}"] = np.zeros((len(self.labels), passes // count), np.bool_)
            decided = leaders(group_tally(cast, passes, count)).reshape(len(labels), -1)  # [examples, groups]
            found[f"{count}"][chosen] = decided == labels

    def end_of_cell(self, noise: Noise) -> None:  # noqa: ARG002  # the watcher's
        """Keep what was counted."""
        self.kept.keep()

    def shares(self, noise: Noise, votes: int) -> NDArray[np.float64] | None:
        """Share of the groups of so many votes that decided right, float64 [examples]; None if it was not measured.

        Without noise one vote is as good as many.
        """
        found = self.kept.cells.get(cell_key(noise), {}).get("1" if noise[1] == 0 else f"{votes}")
        return None if found is None else np.asarray(found.mean(axis=1))


def paired_error(ours: Outcomes, theirs: Outcomes, noise: Noise, votes: int) -> float | None:
    """Standard error, over examples, of the difference of two accuracies; None where it was not measured."""
    pair = ours.shares(noise, votes), theirs.shares(noise, votes)
    if pair[0] is None or pair[1] is None:
        return None
    return float(np.std(pair[0] - pair[1], ddof=1)) / math.sqrt(len(pair[0]))
