"""What the votes decided on each example: more than accuracies say, and what figures of classes are made of."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisevote.evaluation.cell_arrays import CellArrays, CellKey, cell_key
from noisevote.evaluation.plan import Noise
from noisevote.evaluation.scores import group_tally
from noisevote.voting.decision import leaders
from noisevote.voting.tally import Ballots


@dataclass(frozen=True)
class Decisions:
    """What was decided in each cell, kept beside the results."""

    kept: CellArrays

    @classmethod
    def beside(cls, file: Path, examples: int, sha256: str) -> "Decisions":
        """What was kept of exactly this measured file and number of examples; else nothing yet."""
        return cls(CellArrays.beside(file, examples, sha256))

    @property
    def cells(self) -> dict[CellKey, tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]:
        """Of each cell, by kind, sigma and reads, three arrays [examples].

        They are int64, what all votes together decide on each example; float64, the largest mean probability; int64,
        the class whose it is.
        """
        cells = self.kept.cells.items()
        return {key: (found["decided"], found["surest"], found["class"]) for key, found in cells}

    def put(self, noise: Noise, found: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]) -> None:
        """Take over the three arrays of a cell that was decided elsewhere."""
        self.kept.cells[cell_key(noise)] = dict(zip(("decided", "surest", "class"), found, strict=True))

    def votes(self, noise: Noise, chosen: slice, cast: Ballots) -> None:
        """Decide on some examples by all their votes."""
        count = chosen.stop - chosen.start
        tally = group_tally(cast, len(cast.classes) // count, len(cast.classes) // count)
        means = tally.mean_probabilities()
        empty = {name: np.zeros(self.kept.examples, np.int64) for name in ("decided", "class")}
        found = self.kept.cells.setdefault(cell_key(noise), empty | {"surest": np.zeros(self.kept.examples)})
        found["decided"][chosen] = leaders(tally)
        found["surest"][chosen], found["class"][chosen] = means.max(axis=1), means.argmax(axis=1)

    def end_of_cell(self, noise: Noise) -> None:  # noqa: ARG002  # the watcher's
        """Keep what was decided."""
        self.kept.keep()
