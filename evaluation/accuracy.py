"""Accuracy of a variant, measured through ONNX Runtime as the service runs it, or by the torch twin.

The test images are treated as one request: image i draws with seed + i and votes 0, 1, …; so every figure
can be repeated vote by vote by the service. Results are kept after each cell (noise kind, sigma).
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from tqdm import tqdm

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.provenance import DEVICE, git_commit, versions
from noisevote.noise_op.contract import NoiseKind, sigma_row
from noisevote.noise_op.library import load_kernel
from noisevote.training.errors import TrainingError
from noisevote.training.measure.engines import Engine, EngineName, Rows

VOTE_COUNTS: Final = (1, 2, 3, 5, 10, 20, 50, 100)

Votes = NDArray[np.uint8]  # [images, votes]: class of each single vote
Probabilities = NDArray[np.float32]  # [images, votes, classes]


class EvaluationError(TrainingError):
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

    `engine` and `device` say what measured them and where, if not what the evaluation says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    noise: NoiseKind
    sigma: float
    passes: int
    seconds: float
    measured: tuple[Measured, ...]
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

    def cell(self, noise: NoiseKind, sigma: float) -> Cell | None:
        """The cell at exactly this noise, if measured."""
        found = (cell for cell in self.cells if cell.noise == noise and cell.sigma == sigma)
        return next(found, None)

    def with_cells(self, cells: Iterable[Cell]) -> "Evaluation":
        """The same with these cells, each in the place of one at the same noise."""
        placed = {(cell.noise, cell.sigma): cell for cell in (*self.cells, *cells)}
        return self.model_copy(update={"cells": tuple(placed[noise] for noise in sorted(placed))})


@dataclass(frozen=True)
class Plan:
    """What to measure: every kind at every sigma, `votes` votes an image."""

    kinds: tuple[NoiseKind, ...]
    sigmas: tuple[float, ...]
    votes: int
    seed: int

    def cells(self) -> list[tuple[NoiseKind, float]]:
        """Kinds and sigmas to measure; sigma 0 under the first kind only, as it is the same under all."""
        return [(kind, sigma) for kind in self.kinds for sigma in self.sigmas if sigma > 0 or kind == self.kinds[0]]

    def passes(self, sigma: float) -> int:
        """Votes an image needs: at sigma 0 all are the same."""
        return 1 if sigma == 0 else self.votes


def evaluate(engine: Engine, results: Path, examples: Examples, plan: Plan) -> Evaluation:
    """Measure what `plan` asks for and `results` does not hold yet; returns all that is measured.

    Args:
        engine: computes the votes, of what its file holds.
        results: where measurements are kept.
        examples: what to measure on.
        plan: what to measure.

    Raises:
        EvaluationError: `results` is not a file of results.
    """
    evaluation = _started(engine, results, examples, plan)
    todo = [cell for cell in plan.cells() if not _covers(evaluation.cell(*cell), plan.passes(cell[1]))]
    total = sum(plan.passes(sigma) for _, sigma in todo) * len(examples)
    with tqdm(total=total, unit="vote", unit_scale=True, desc=engine.file.stem, disable=None) as bar:
        for kind, sigma in todo:
            bar.set_postfix(noise=kind, sigma=sigma)
            started = time.perf_counter()
            votes, probabilities = cast_votes(engine, examples, (kind, sigma), plan, bar.update)
            seconds = round(time.perf_counter() - started, 2)
            measured = tuple(measure(votes, probabilities, examples.labels))
            cell = Cell(
                noise=kind,
                sigma=sigma,
                passes=votes.shape[1],
                seconds=seconds,
                measured=measured,
                device=_elsewhere(evaluation, engine),
            )
            evaluation = evaluation.with_cells([cell])
            _write(results, evaluation)
            bar.write(f"{engine.file.stem} {kind} sigma {sigma}: " + _readable(measured))
    return evaluation


def cast_votes(
    engine: Engine,
    examples: Examples,
    noise: tuple[NoiseKind, float],
    plan: Plan,
    progress: Callable[[int], Any] = lambda _: None,
) -> tuple[Votes, Probabilities]:
    """The single votes of every example and their softmax probabilities; see `cast_logits`."""
    logits = cast_logits(engine, examples, noise, plan, progress)
    return logits.argmax(axis=2).astype(np.uint8), softmax(logits)


def cast_logits(
    engine: Engine,
    examples: Examples,
    noise: tuple[NoiseKind, float],
    plan: Plan,
    progress: Callable[[int], Any] = lambda _: None,
) -> NDArray[np.float32]:
    """The logits of every single vote, [examples, votes, classes], in runs of about as many rows as suit the engine."""
    passes = plan.passes(noise[1])
    per_run = max(1, engine.rows // passes)
    chunks = []
    for start in range(0, len(examples), per_run):
        inputs = examples.values(slice(start, start + per_run))
        chunks.append(engine.logits(inputs, _rows(len(inputs), start, noise, passes, plan.seed)))
        progress(len(inputs) * passes)
    return np.concatenate(chunks).reshape(len(examples), passes, -1)


def _rows(inputs: int, start: int, noise: tuple[NoiseKind, float], passes: int, seed: int) -> Rows:
    """`passes` votes for each of so many inputs, the first of which is number `start` of all."""
    row = np.repeat(np.arange(inputs, dtype=np.int64), passes)
    sigma = np.tile(np.array(sigma_row(*noise), np.float32), (len(row), 1))
    vote = np.tile(np.arange(passes, dtype=np.int64), inputs)
    return Rows(sigma, row + np.int64(start + seed), vote, row)


def softmax(logits: Probabilities) -> Probabilities:
    """Softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    share: Probabilities = powers / powers.sum(axis=-1, keepdims=True)
    return share


def decide(votes: Votes, probabilities: Probabilities) -> NDArray[np.int64]:
    """The decisions [images]: the mode; ties go to the larger mean probability, then to the lower index."""
    classes = np.arange(probabilities.shape[2])
    histogram = (votes[:, :, np.newaxis] == classes).sum(axis=1)  # [images, classes]
    leads = histogram == histogram.max(axis=1, keepdims=True)
    decisions: NDArray[np.int64] = np.where(leads, probabilities.mean(axis=1), -1.0).argmax(axis=1)
    return decisions


def measure(votes: Votes, probabilities: Probabilities, labels: NDArray[np.uint8]) -> Iterable[Measured]:
    """Accuracy at each vote count that the votes suffice for; groups are consecutive and disjoint."""
    passes = votes.shape[1]
    for count in VOTE_COUNTS:
        if count > passes:
            return
        starts = range(0, passes - count + 1, count)
        groups = [slice(start, start + count) for start in starts]
        accuracies = [float(np.mean(decide(votes[:, group], probabilities[:, group]) == labels)) for group in groups]
        yield Measured(
            votes=count,
            accuracy=float(np.mean(accuracies)),
            spread=float(np.std(accuracies, ddof=1)) if len(groups) > 1 else None,
            groups=len(groups),
            soft_accuracy=float(np.mean([_soft_accuracy(probabilities[:, group], labels) for group in groups])),
        )


def _soft_accuracy(probabilities: Probabilities, labels: NDArray[np.uint8]) -> float:
    return float(np.mean(probabilities.mean(axis=1).argmax(axis=1) == labels))


def sha256_of(file: Path) -> str:
    """Hash of the file's bytes, as in the manifest."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def read(results: Path) -> Evaluation:
    """Read a file of results.

    Raises:
        EvaluationError: missing, or not ours.
    """
    try:
        return Evaluation.model_validate_json(results.read_text())
    except (OSError, ValidationError) as error:
        raise EvaluationError(results, str(error)) from error


def _started(engine: Engine, results: Path, examples: Examples, plan: Plan) -> Evaluation:
    """What `results` holds of exactly this engine, file, seed and number of images; else nothing measured yet."""
    kernel = load_kernel()
    fresh = Evaluation(
        sha256=sha256_of(engine.file),
        engine=engine.name,
        seed=plan.seed,
        images=len(examples),
        commit=git_commit(),
        versions=versions(engine.device),
        isa=kernel.isa if kernel and engine.device.type == "cpu" else None,
    )
    if not results.exists():
        return fresh
    before = read(results)
    same = all(getattr(before, key) == getattr(fresh, key) for key in ("sha256", "engine", "seed", "images"))
    return before if same else fresh


def _elsewhere(evaluation: Evaluation, engine: Engine) -> str | None:
    """The device that the engine computes on, if what was measured before it was measured on another."""
    here = versions(engine.device).get(DEVICE)
    return None if here == evaluation.versions.get(DEVICE) else here or "CPU"


def _covers(cell: Cell | None, passes: int) -> bool:
    return cell is not None and cell.passes >= passes


def _write(results: Path, evaluation: Evaluation) -> None:
    part = results.with_name(f".{results.name}.{os.getpid()}")
    part.write_text(json.dumps(evaluation.model_dump(), indent=1) + "\n")
    part.replace(results)


def _readable(measured: Iterable[Measured]) -> str:
    return ", ".join(f"{100 * m.accuracy:.2f} % at {m.votes}" for m in measured)
