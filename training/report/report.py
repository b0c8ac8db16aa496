"""Tables and figures of the experiments, made from the records alone: the same records give the same bytes."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from noisevote.evaluation.results import Cell, Evaluation, Measured
from noisevote.noise_op.contract import NOISE_KINDS, NoiseKind
from noisevote.training.measure import outputs
from noisevote.training.networks.registry import named
from noisevote.training.report import figures, paper
from noisevote.training.report.beside_paper import ABOUT, tables
from noisevote.training.report.record import Record, best, read_all, trained_for

PRODUCTS: Final = 20  # reads times votes, where reads are set against votes
READS: Final = {1: 20, 2: 10, 4: 5, 7: 3, 10: 2, 20: 1}  # to the votes that come nearest to so many products
LEAST_RUNS: Final = 5  # of a mean with its deviation


def report(records: Path, out: Path) -> list[Path]:
    """Write OUT/<network>.md and its figures for every network that has records; returns what was written.

    Raises:
        RecordError: a file is no record.
    """
    written = []
    for network, recorded in read_all(records).items():
        runs = [run for run in recorded if run.calibrated_at is None]
        calibrated = [run for run in recorded if run.calibrated_at is not None]
        pictures = figures.draw(network, runs, outputs.read(records.parent / "outputs", network), out)
        page = out / f"{network}.md"
        page.write_text("\n".join(_page(network, runs, calibrated, pictures)) + "\n")
        written += [page, *pictures]
    return written


def _page(
    network: str, runs: Sequence[Record], calibrated: Sequence[Record], pictures: Sequence[Path]
) -> Iterable[str]:
    yield from (f"# {named(network).title}", "", *_about([*runs, *calibrated]))
    yield from ("", "## Beside the paper", "", ABOUT)
    for noise in NOISE_KINDS:
        of_kind = trained_for(runs, noise)
        if not any(run.noise == noise or run.most_votes(noise) for run in of_kind):
            continue
        yield from ("", f"## {noise.capitalize()} noise", "", *tables(network, of_kind, calibrated, noise))
        yield from ("", *_grid(of_kind, noise, 1), "", *_grid(of_kind, noise, paper.VOTES))
        yield from _votes(of_kind, noise)
        yield from _reads(of_kind, noise)
        yield from _calibrated(of_kind, [run for run in calibrated if run.noise == noise], noise)
    yield from ("", "## Training", "", *_training(runs), "", "## Figures", "")
    yield from (f"![{picture.stem}]({picture.name})" for picture in pictures)


def _about(runs: Sequence[Record]) -> Iterable[str]:
    costs, evaluations = runs[0], [run.evaluation for run in runs]
    yield (
        f"{costs.parameters:,} parameters; a vote takes {costs.multiply_accumulates / 1e6:.1f} million "
        f"multiply-accumulates and {costs.samples:,} noise samples in {costs.layers} noisy layers."
    )
    images = sorted({evaluation.images for evaluation in evaluations})
    engines = sorted({_engine(evaluation, cell) for evaluation in evaluations for cell in evaluation.cells})
    counts = " or ".join(f"{count:,}" for count in images)
    yield (
        f"Accuracies are in % of {counts} test inputs, by {' or '.join(engines)}, seed {evaluations[0].seed}. "
        f"Made by `python -m training report` from the records in `runs/{costs.network}/`."
    )


def _engine(evaluation: Evaluation, cell: Cell) -> str:
    """Name the engine that cast the votes of a cell, as readers know it."""
    if (cell.engine or evaluation.engine) == "onnxruntime":
        return "ONNX Runtime"
    device = cell.device or evaluation.versions.get("device", "CPU")
    return f"the torch twin on {'the ' if device == 'CPU' else ''}{device}"


def _engines(evaluation: Evaluation) -> str:
    """Name the engines that cast the votes of a run; where there were several, with the sigmas of each."""
    sigmas: dict[str, list[str]] = {}
    for cell in evaluation.cells:
        sigmas.setdefault(_engine(evaluation, cell), []).append(f"{cell.sigma:.3g}")
    if len(sigmas) == 1:
        return next(iter(sigmas))
    return "; ".join(f"{engine} at {', '.join(at)}" for engine, at in sorted(sigmas.items()))


def _grid(runs: Sequence[Record], noise: NoiseKind, votes: int) -> Iterable[str]:
    runs_word = "One run, mean ± deviation over runs of the whole test" if votes == 1 else f"{votes} votes, their mode"
    yield from (f"{runs_word}:", "")
    yield from _header(["σ_train", *(f"sigma {sigma}" for sigma in paper.SIGMAS)])
    for run in runs:
        cells = [run.measured(noise, sigma, votes) for sigma in paper.SIGMAS]
        if any(cells[1:]):
            yield _row([run.variant, *(_with_spread(cell) for cell in cells)])


def _votes(runs: Sequence[Record], noise: NoiseKind) -> Iterable[str]:
    """Mode against mean probability, at the largest sigma, of the best of the runs measured with most votes there."""
    sigma = paper.SIGMAS[-1]
    most = max(run.most_votes(noise, sigma) for run in runs)
    chosen = best(runs, noise, sigma, most)
    run = chosen[0] if chosen else runs[0]
    cell = run.evaluation.cell(noise, sigma)
    if cell is None or any(found.soft_accuracy is None for found in cell.measured):
        return
    yield from (
        "",
        f"Votes at sigma {sigma:g}, variant `{run.variant}`: the mode, and the largest mean probability:",
        "",
    )
    yield from _header(["votes", *(str(found.votes) for found in cell.measured)])
    yield _row(["mode", *(_percent(found.accuracy) for found in cell.measured)])
    yield _row(["mean probability", *(_percent(found.soft_accuracy or 0.0) for found in cell.measured)])


def _reads(runs: Sequence[Record], noise: NoiseKind) -> Iterable[str]:
    """Averaging reads of each product against voting, at about the same number of products."""
    rows = []
    for reads, votes in READS.items():
        pair = best(runs, noise, paper.SIGMAS[-1] / math.sqrt(reads), votes)
        if pair is not None:
            rows.append((reads, votes, *pair))
    if len(rows) < 2:  # one row compares nothing
        return
    yield from ("", f"Reads against votes at sigma {paper.SIGMAS[-1]:g} and about {PRODUCTS} products a layer:", "")
    yield from _header(["reads", "votes", "products", "mode", "mean probability", "variant"])
    for reads, votes, run, found in rows:
        soft = "–" if found.soft_accuracy is None else _percent(found.soft_accuracy)
        yield _row([str(reads), str(votes), str(reads * votes), _percent(found.accuracy), soft, f"`{run.variant}`"])


def _calibrated(runs: Sequence[Record], calibrated: Sequence[Record], noise: NoiseKind) -> Iterable[str]:
    """Set each calibrated run, at its sigma, beside the run that it was made from."""
    if not calibrated:
        return
    yield from (
        "",
        "Calibrated, that is with batch norms estimated anew under the noise itself, weights as they were:",
        "",
    )
    title = f"{paper.VOTES} votes"
    yield from _header(["variant", "sigma", "one run", "calibrated", title, "calibrated", f"best σ_train, {title}"])
    for run in sorted(calibrated, key=lambda run: (run.sigma_train, run.calibrated_at or 0.0)):
        sigma = run.calibrated_at or 0.0
        sources = [other for other in runs if other.sigma_train == run.sigma_train]
        found = [
            next((at for each in among if (at := each.measured(noise, sigma, votes))), None)
            for votes in (1, paper.VOTES)
            for among in (sources, [run])
        ]
        top = best(runs, noise, sigma, paper.VOTES)
        yield _row(
            [f"`{run.variant}`", f"{sigma:g}", *map(_with_spread, found), _percent(top[1].accuracy) if top else "–"]
        )


def _training(runs: Sequence[Record]) -> Iterable[str]:
    yield from _header(
        ["variant", "epochs", "minutes", "on", "votes by", "recipe where not the default", "mean weight norm", "commit"]
    )
    for run in runs:
        changed = ", ".join(_setting(key, value) for key, value in run.changed.items() if key != "epochs") or "–"
        minutes = sum(epoch.seconds for epoch in run.epochs) / 60
        norm = sum(run.weight_norms) / len(run.weight_norms)
        yield _row(
            [
                run.variant,
                str(len(run.epochs)),
                f"{minutes:.0f}",
                run.versions.get("device", "CPU"),
                _engines(run.evaluation),
                changed,
                f"{norm:.3f}",
                (run.commit or "–")[:7],
            ]
        )


def _setting(key: str, value: JsonValue) -> str:
    """A field of a recipe; a published file that it started from by model, version and variant, as later ones go."""
    *_, model, version, file = ("", "", *str(value).split("/"))
    published = key == "init" and file.endswith(".onnx")
    return f"init {model} {version} {file.removesuffix('.onnx')}" if published else f"{key} {value}"


def _header(cells: Sequence[str]) -> Iterable[str]:
    yield _row(cells)
    yield "|" + "---|" * len(cells)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.2f}"


def _with_spread(found: Measured | None) -> str:
    if found is None:
        return "–"
    spread = f" ± {100 * found.spread:.2f}" if found.spread is not None and found.groups >= LEAST_RUNS else ""
    return _percent(found.accuracy) + spread
