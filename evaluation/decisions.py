"""What the votes decided on each example: more than accuracies say, and what figures of classes are made of."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisevote.evaluation.plan import Noise
from noisevote.evaluation.scores import group_tally
from noisevote.model_store.files import replace_file
from noisevote.voting.decision import leaders
from noisevote.voting.tally import Ballots

KEY_SEPARATOR = "|"


@dataclass
class Decisions:
    """What was decided in each cell, by kind, sigma and reads.

    It is three arrays [n]: int64, what all votes together decide on each example; float64, the largest mean
    probability; int64, the class whose it is.

    Kept in a file beside the results as soon as a cell is complete, so that an evaluation that goes on finds them.
    """

    file: Path
    examples: int
    sha256: str
    cells: dict[tuple[str, float, int], tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]] = field(
        default_factory=dict
    )

    @classmethod
    def beside(cls, file: Path, examples: int, sha256: str) -> "Decisions":
        """What was kept of exactly this file and number of examples; else nothing yet."""
        made = cls(file, examples, sha256)
        if file.exists():
            with np.load(file, allow_pickle=False) as stored:
                if str(stored["sha256"]) == sha256 and int(stored["examples"]) == examples:
                    for key in stored["cells"].tolist():
                        kind, sigma, reads = str(key).split(KEY_SEPARATOR)
                        made.cells[kind, float(sigma), int(reads)] = (
                            stored[f"decided {key}"], stored[f"surest {key}"], stored[f"class {key}"]
                        )  # fmt: skip
        return made

    def votes(self, noise: Noise, chosen: slice, cast: Ballots) -> None:
        """Decide on some examples by all their votes."""
        count = chosen.stop - chosen.start
        tally = group_tally(cast, len(cast.classes) // count, len(cast.classes) // count)
        means = tally.mean_probabilities()
        decided, surest, surest_class = self._cell(noise)
        decided[chosen], surest[chosen], surest_class[chosen] = leaders(tally), means.max(axis=1), means.argmax(axis=1)

    def end_of_cell(self, noise: Noise) -> None:  # noqa: ARG002  # the watcher's
        """Keep what was decided."""
        named = {KEY_SEPARATOR.join((kind, repr(sigma), str(reads))): found for (kind, sigma, reads), found in
                 self.cells.items()}  # fmt: skip
        arrays = {"sha256": np.array(self.sha256), "examples": np.array(self.examples), "cells": np.array(list(named))}
        for key, (decided, surest, surest_class) in named.items():
            arrays |= {f"decided {key}": decided, f"surest {key}": surest, f"class {key}": surest_class}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.file, _npz(arrays))

    def _cell(self, noise: Noise) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        key = (noise[0], noise[1], noise[2] if len(noise) > 2 else 1)
        if key not in self.cells:
            empty = np.zeros(self.examples, np.int64)
            self.cells[key] = (empty, np.zeros(self.examples), empty.copy())
        return self.cells[key]


def _npz(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes no mapping
    return stream.getvalue()
