"""Files of results: what was measured of one file, cell by cell."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from noisevote.model_store.files import replace_file
from noisevote.model_store.store import digest
from noisevote.noise_op.contract import NoiseKind

EngineName = Literal["onnxruntime", "torch"]


class EvaluationError(Exception):
    """The file to be measured, or a file of results, cannot be used."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"evaluation {path}: {why}")


class Measured(BaseModel):
    """Accuracy of the mode of `votes` votes: mean and standard deviation over `groups` disjoint groups of votes.

    `soft_accuracy` is the mean accuracy of the largest mean probability of the same votes, instead of the mode;
    None where it was not measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    votes: int
    accuracy: float
    spread: float | None
    groups: int
    soft_accuracy: float | None = None


class Cell(BaseModel):
    """All measurements at one noise kind and sigma.

    `reads` reads of each analog product were averaged. `engine` and `device` say what measured them and where, if not
    what the evaluation says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    noise: NoiseKind
    sigma: float
    passes: int
    seconds: float
    measured: tuple[Measured, ...]
    reads: int = 1
    engine: EngineName | None = None
    device: str | None = None


class Evaluation(BaseModel):
    """Measurements of one file, exported or of weights, by `engine`; `images` and `seed` hold for every cell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    engine: EngineName = "onnxruntime"
    seed: int
    images: int
    commit: str | None
    versions: dict[str, str]
    isa: str | None
    cells: tuple[Cell, ...] = ()

    def cell(self, noise: NoiseKind, sigma: float, reads: int = 1) -> Cell | None:
        """Return the cell at exactly this noise, if measured."""
        wanted = (noise, sigma, reads)
        return next((cell for cell in self.cells if (cell.noise, cell.sigma, cell.reads) == wanted), None)

    def with_cells(self, cells: Iterable[Cell]) -> "Evaluation":
        """Return the evaluation with these cells added, each in the place of one at the same noise."""
        placed = {(cell.noise, cell.sigma, cell.reads): cell for cell in (*self.cells, *cells)}
        return self.model_copy(update={"cells": tuple(placed[noise] for noise in sorted(placed))})

    @property
    def measured_by(self) -> Literal["onnxruntime", "torch", "mixed"]:
        """The engine that measured every cell; `mixed` if there were several."""
        engines = {cell.engine or self.engine for cell in self.cells} or {self.engine}
        return engines.pop() if len(engines) == 1 else "mixed"


def sha256_of(file: Path) -> str:
    """Return the hash of the file's bytes, as in the manifest."""
    return digest(file.read_bytes())


def read(results: Path) -> Evaluation:
    """Read a file of results.

    Raises:
        EvaluationError: missing, or not ours.
    """
    try:
        return Evaluation.model_validate_json(results.read_bytes())
    except (OSError, ValidationError) as error:
        raise EvaluationError(results, str(error)) from error


def write(results: Path, evaluation: Evaluation) -> None:
    """Replace a file of results."""
    replace_file(results, f"{evaluation.model_dump_json(indent=1)}\n".encode())
