"""Arrays over examples, cell by cell, kept in a file beside the results of an evaluation."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from noisevote.evaluation.plan import Noise
from noisevote.model_store.files import replace_file
from noisevote.noise_op.contract import NoiseKind

KEY_SEPARATOR: Final = "|"

CellKey = tuple[NoiseKind, float, int]  # kind, sigma, reads


def cell_key(noise: Noise) -> CellKey:
    """A cell's noise, with its reads."""
    return (noise[0], noise[1], noise[2] if len(noise) > 2 else 1)


@dataclass
class CellArrays:
    """Named arrays [examples, …] of each cell that was measured of one file.

    They are kept as soon as a cell is complete, so that an evaluation that goes on finds them.
    """

    file: Path
    examples: int
    sha256: str
    cells: dict[CellKey, dict[str, NDArray[Any]]] = field(default_factory=dict)

    @classmethod
    def beside(cls, file: Path, examples: int, sha256: str) -> "CellArrays":
        """What was kept of exactly this measured file and number of examples; else nothing yet."""
        made = cls(file, examples, sha256)
        if not file.exists():
            return made
        with np.load(file, allow_pickle=False) as stored:
            if str(stored["sha256"]) == sha256 and int(stored["examples"]) == examples:
                for written in stored["cells"].tolist():
                    kind, sigma, reads = str(written).split(KEY_SEPARATOR)
                    names = [name.split(" ") for name in stored.files if " " in name]
                    found = {name: stored[f"{name} {written}"] for name, of in names if of == written}
                    made.cells[kind, float(sigma), int(reads)] = found  # type: ignore[index]  # as it was written
        return made

    def keep(self) -> None:
        """Write all cells to the file."""
        written = {
            KEY_SEPARATOR.join((kind, repr(sigma), str(reads))): found
            for (kind, sigma, reads), found in self.cells.items()
        }
        arrays = {"sha256": np.array(self.sha256), "examples": np.array(self.examples), "cells": np.array([*written])}
        for key, found in written.items():
            arrays |= {f"{name} {key}": array for name, array in found.items()}
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes no mapping
        self.file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.file, stream.getvalue())
