"""Accuracy over noise and votes: what a plan asks for, measured and kept after each cell (noise kind, sigma)."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from noisevote.evaluation import results
from noisevote.evaluation.engine import Engine
from noisevote.evaluation.examples import Labelled
from noisevote.evaluation.plan import Noise, Plan
from noisevote.evaluation.provenance import DEVICE, git_commit, versions
from noisevote.evaluation.results import Cell, Evaluation, EvaluationError, Measured
from noisevote.evaluation.scores import VOTE_COUNTS, Scores
from noisevote.evaluation.votes import logits_by_run
from noisevote.noise_op.contract import NoiseKind
from noisevote.noise_op.library import load_kernel
from noisevote.voting.tally import Ballots, ballots


class Watcher(Protocol):
    """Sees every vote while accuracies are measured."""

    def votes(self, noise: Noise, chosen: slice, cast: Ballots) -> None:
        """Be told of the votes of some examples, those of an example one after another."""

    def end_of_cell(self, noise: Noise) -> None:
        """Be told that all votes of a cell were cast; what was seen must be kept now."""


class NobodyWatches:
    """Lets votes go by."""

    def votes(self, noise: Noise, chosen: slice, cast: Ballots) -> None:
        """Let them go by."""

    def end_of_cell(self, noise: Noise) -> None:
        """Keep nothing."""


def evaluate(
    engine: Engine,
    kept: Path,
    examples: Labelled,
    plan: Plan,
    watcher: Watcher = NobodyWatches(),  # noqa: B008
) -> Evaluation:
    """Measure what `plan` asks for and the file of results does not hold yet; returns all that is measured.

    Args:
        engine: computes the votes, of what its file holds.
        kept: the file of results, where measurements are kept.
        examples: what to measure on.
        plan: what to measure.
        watcher: sees the votes.

    Raises:
        EvaluationError: `kept` is not a file of results, or logits are not numbers.
    """
    evaluation = _started(engine, kept, examples, plan)
    missing = [cell for cell in plan.cells() if not _covers(evaluation.cell(*cell), cell, plan)]
    votes = sum(plan.passes(sigma) for _, sigma, _ in missing) * len(examples)
    with tqdm(total=votes, unit="vote", unit_scale=True, desc=engine.file.stem, disable=None) as bar:
        for noise in missing:
            bar.set_postfix(noise=noise[0], sigma=noise[1])
            cell = _cell(engine, examples, noise, plan, bar.update, watcher)
            watcher.end_of_cell(noise)
            evaluation = evaluation.with_cells([cell.model_copy(update={"device": _elsewhere(evaluation, engine)})])
            results.write(kept, evaluation)
            reads = f" reads {noise[2]}" if noise[2] > 1 else ""
            bar.write(f"{engine.file.stem} {noise[0]} sigma {noise[1]}{reads}: {_readable(cell.measured)}")
    return evaluation


def _cell(
    engine: Engine,
    examples: Labelled,
    noise: tuple[NoiseKind, float, int],
    plan: Plan,
    progress: Callable[[int], Any],
    watcher: Watcher,
) -> Cell:
    """Measure at one noise; `progress` is told how many votes were cast, run by run."""
    passes, started = plan.passes(noise[1]), time.perf_counter()
    scores = Scores(passes, _counts(plan, noise[1]))
    for chosen, logits in logits_by_run(engine, examples, noise, plan):
        cast = ballots(logits)
        if not cast.finite.all():
            raise EvaluationError(engine.file, f"logits under {noise[0]} noise of sigma {noise[1]} are not numbers")
        scores.add(cast, examples.labels[chosen])
        watcher.votes(noise, chosen, cast)
        progress(len(logits))
    kind, sigma, reads = noise
    seconds = round(time.perf_counter() - started, 2)
    return Cell(noise=kind, sigma=sigma, passes=passes, seconds=seconds, measured=scores.measured(), reads=reads)


def _counts(plan: Plan, sigma: float) -> tuple[int, ...]:
    """Numbers of votes whose accuracy is wanted; without noise all votes are the same one."""
    return (1,) if sigma == 0 else plan.counts or VOTE_COUNTS


def _started(engine: Engine, kept: Path, examples: Labelled, plan: Plan) -> Evaluation:
    """Read what `kept` holds of exactly this engine, file, seed and number of images; else start anew."""
    kernel = load_kernel()
    fresh = Evaluation(
        sha256=results.sha256_of(engine.file),
        engine=engine.name,
        seed=plan.seed,
        images=len(examples),
        commit=git_commit(),
        versions={**versions(), **engine.device},
        isa=kernel.isa if kernel and not engine.device else None,
    )
    if not kept.exists():
        return fresh
    before = results.read(kept)
    same = all(getattr(before, key) == getattr(fresh, key) for key in ("sha256", "engine", "seed", "images"))
    return before if same else fresh


def _elsewhere(evaluation: Evaluation, engine: Engine) -> str | None:
    """The device that the engine computes on, if what was measured before it was measured on another."""
    here = engine.device.get(DEVICE)
    return None if here == evaluation.versions.get(DEVICE) else here or "CPU"


def _covers(cell: Cell | None, noise: tuple[NoiseKind, float, int], plan: Plan) -> bool:
    if cell is None or cell.passes < plan.passes(noise[1]):
        return False
    return {count for count in plan.counts or () if noise[1] > 0} <= {found.votes for found in cell.measured}


def _readable(measured: Iterable[Measured]) -> str:
    return ", ".join(f"{100 * m.accuracy:.2f} % at {m.votes}" for m in measured)
