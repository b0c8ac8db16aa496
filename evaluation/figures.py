"""Figures of a measured model: accuracy over sigma and votes, reads against votes, confusion, calibration."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from noisevote.evaluation.decisions import Decisions
from noisevote.evaluation.results import Cell, Evaluation

DPI: Final = 110
MOST_CLASSES: Final = 40  # in a picture of confusions; of more the most confused ones
BINS: Final = 10
Labels = NDArray[np.integer[Any]]


def draw(
    folder: Path, variant: str, found: Evaluation, decided: Decisions, labels: Labels, classes: Sequence[str]
) -> list[Path]:
    """Write the figures that the measurements suffice for; returns their paths."""
    made = []
    for noise in sorted({cell.noise for cell in found.cells if cell.sigma > 0}):
        cells = [cell for cell in found.cells if cell.noise == noise or cell.sigma == 0]
        once = [cell for cell in cells if cell.reads == 1]
        stem = f"{variant}-{noise}"
        made.append(_save(_over_sigma(once, noise), folder / f"{stem}-sigma.png"))
        if max(cell.passes for cell in once) > 1:
            made.append(_save(_over_votes(once, noise), folder / f"{stem}-votes.png"))
        if len({cell.reads for cell in cells}) > 1:
            made.append(_save(_reads_against_votes(cells, noise), folder / f"{stem}-reads.png"))
        chosen = _telling(once)
        if chosen is not None and (key := (chosen.noise, chosen.sigma, 1)) in decided.cells:
            seen, surest, surest_class = decided.cells[key]
            made.append(_save(_confusion(chosen, seen, labels, classes), folder / f"{stem}-confusion.png"))
            made.append(_save(_calibration(chosen, surest, surest_class == labels), folder / f"{stem}-calibration.png"))
    return made


def _over_sigma(cells: Sequence[Cell], noise: str) -> Figure:
    figure, axes = _panel()
    counts = sorted({each.votes for cell in cells for each in cell.measured})
    for place, count in enumerate(counts):
        points = [(cell.sigma, *_at(cell, count)) for cell in cells if _has(cell, count)]
        sigmas, accuracies, errors = (np.array(column) for column in zip(*sorted(points), strict=True))
        colour = colormaps["viridis"](0.9 * place / max(1, len(counts) - 1))
        axes.errorbar(sigmas, 100 * accuracies, 100 * errors, marker="o", markersize=3, capsize=2, color=colour,
                      label=f"{count} vote{'s' if count > 1 else ''}")  # fmt: skip
    axes.set(xlabel=f"sigma ({noise})", ylabel="accuracy in percent", ylim=(0, 101))
    axes.legend(fontsize=8)
    return figure


def _over_votes(cells: Sequence[Cell], noise: str) -> Figure:
    figure, axes = _panel()
    noisy = sorted((cell for cell in cells if cell.sigma > 0), key=lambda cell: cell.sigma)
    for place, cell in enumerate(noisy):
        colour = colormaps["plasma"](0.85 * place / max(1, len(noisy) - 1))
        counts = [each.votes for each in cell.measured]
        axes.plot(counts, [100 * each.accuracy for each in cell.measured], marker="o", markersize=3, color=colour,
                  label=f"{cell.sigma:g}")  # fmt: skip
        soft = [each.soft_accuracy for each in cell.measured]
        if None not in soft:
            axes.plot(counts, [100 * each for each in soft if each is not None], ":", color=colour)
    axes.set(xlabel="votes (solid: mode, dotted: mean probability)", ylabel="accuracy in percent", xscale="log")
    ticks = sorted({each.votes for cell in noisy for each in cell.measured})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=7, title=f"sigma ({noise})", title_fontsize=7, ncols=2)
    return figure


def _reads_against_votes(cells: Sequence[Cell], noise: str) -> Figure:
    """Accuracy over the products that an input costs, votes × reads of each layer: which of the two pays more."""
    figure, axes = _panel()
    noisy = sorted((cell for cell in cells if cell.sigma > 0), key=lambda cell: (cell.sigma, cell.reads))
    by_sigma = {sigma: list(group) for sigma, group in groupby(noisy, key=lambda cell: cell.sigma)}
    shown = _some(sorted(by_sigma), 4)
    reads = sorted({cell.reads for cell in noisy})
    for place, sigma in enumerate(shown):
        for cell in by_sigma[sigma]:
            colour = colormaps["plasma"](0.85 * place / max(1, len(shown) - 1))
            style = ("-", "--", ":", "-.")[reads.index(cell.reads) % 4]
            costs = [each.votes * cell.reads for each in cell.measured]
            axes.plot(costs, [100 * each.accuracy for each in cell.measured], style, marker="o", markersize=3,
                      color=colour, label=f"sigma {sigma:g}, reads {cell.reads}")  # fmt: skip
    axes.set(xlabel=f"votes × reads ({noise})", ylabel="accuracy in percent", xscale="log")
    costs = sorted({each.votes * cell.reads for cell in noisy for each in cell.measured})
    axes.set_xticks(costs, [str(cost) for cost in costs])
    axes.minorticks_off()
    axes.legend(fontsize=7)
    return figure


def _confusion(cell: Cell, decided: NDArray[np.int64], labels: Labels, classes: Sequence[str]) -> Figure:
    """Which class was decided, by label, in percent of the label's examples."""
    count = len(classes)
    table = np.zeros((count, count), np.int64)
    np.add.at(table, (labels.astype(np.int64), decided), 1)
    shown = np.arange(count)
    if count > MOST_CLASSES:
        wrong = table.sum(axis=1) + table.sum(axis=0) - 2 * np.diag(table)
        shown = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
    part = table[np.ix_(shown, shown)]
    percent = 100 * part / np.maximum(1, table.sum(axis=1)[shown, np.newaxis])
    size = 2.6 + 0.28 * len(shown)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    names = [classes[place] if len(classes[place]) <= 14 else f"{classes[place][:13]}…" for place in shown.tolist()]
    axes.set_xticks(range(len(shown)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(shown)), names, fontsize=7)
    if len(shown) <= 16:
        for row, column in np.argwhere(percent >= 0.5):
            colour = "white" if percent[row, column] > 55 else "black"
            axes.text(column, row, f"{percent[row, column]:.0f}", ha="center", va="center", fontsize=6, color=colour)
    most = f", {len(shown)} most confused of {count} classes" if count > len(shown) else ""
    axes.set(xlabel="decided", ylabel="label")
    axes.set_title(f"{cell.noise} sigma {cell.sigma:g}, {cell.passes} votes{most}", fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.8, label="percent of the label's examples")
    return figure


def _calibration(cell: Cell, surest: NDArray[np.float64], right: NDArray[np.bool_]) -> Figure:
    """How often the class of the largest mean probability is right, by that probability."""
    figure, axes = _panel()
    bins = np.minimum((surest * BINS).astype(np.int64), BINS - 1)
    rows = [(surest[bins == each].mean(), right[bins == each].mean(), int((bins == each).sum()))
            for each in range(BINS) if (bins == each).any()]  # fmt: skip
    means, shares, counts = (np.array(column) for column in zip(*rows, strict=True))
    gap = float((counts * np.abs(means - shares)).sum() / counts.sum())
    errors = np.sqrt(shares * (1 - shares) / counts)
    axes.plot([0, 1], [0, 1], color="tab:gray", linewidth=1, label="calibrated")
    axes.errorbar(means, shares, errors, marker="o", markersize=4, capsize=2, color="tab:blue", label="measured")
    behind = axes.twinx()
    behind.bar(means, counts / counts.sum(), width=0.06, color="tab:blue", alpha=0.15)
    behind.set(ylabel="share of the examples (bars)", ylim=(0, 1))
    axes.set(xlabel="largest mean probability", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"{cell.noise} sigma {cell.sigma:g}, {cell.passes} votes: calibration error {gap:.3f}", fontsize=9)
    axes.legend(fontsize=8, loc="best")
    return figure


def _telling(cells: Sequence[Cell]) -> Cell | None:
    """The cell to look at more closely: the largest sigma at which most votes still keep 9 of 10 right decisions."""
    noisy = sorted((cell for cell in cells if cell.sigma > 0), key=lambda cell: cell.sigma)
    if not noisy:
        return None
    best = max(cell.measured[-1].accuracy for cell in cells)
    usable = [cell for cell in noisy if cell.measured[-1].accuracy >= 0.9 * best]
    return usable[-1] if usable else noisy[0]


def _has(cell: Cell, votes: int) -> bool:
    return cell.sigma == 0 or any(each.votes == votes for each in cell.measured)


def _at(cell: Cell, votes: int) -> tuple[float, float]:
    """Accuracy, and the standard deviation over repetitions where there are some."""
    each = cell.measured[0] if cell.sigma == 0 else next(found for found in cell.measured if found.votes == votes)
    return each.accuracy, each.spread or 0.0


def _some(values: Sequence[float], count: int) -> list[float]:
    """Up to so many of the values, spread evenly."""
    if len(values) <= count:
        return list(values)
    return [values[int(place)] for place in np.linspace(0, len(values) - 1, count)]


def _panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.grid(which="both", alpha=0.25)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=DPI, metadata={"Software": None})  # no version in it: the same record, the same bytes
    return path


def per_site_figure(rows: Iterator[tuple[str, float, float]], quiet: float, noisy: float, title: str) -> Figure:
    """Accuracy with noise at one site alone, and at all sites but it.

    Args:
        rows: layer, and the two accuracies, in the order of computation.
        quiet: without noise.
        noisy: with noise everywhere.
        title: above it.
    """
    found = list(rows)
    figure = Figure(figsize=(7.2, 1.6 + 0.24 * len(found)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(found))
    axes.barh(places - 0.2, [100 * alone for _, alone, _ in found], 0.38, color="tab:blue", label="noise here alone")
    axes.barh(places + 0.2, [100 * but for _, _, but in found], 0.38, color="tab:orange", label="everywhere but here")
    axes.axvline(100 * quiet, color="black", linewidth=1, label="no noise")
    axes.axvline(100 * noisy, color="black", linewidth=1, linestyle="--", label="noise everywhere")
    axes.set_yticks(places, [name if len(name) <= 32 else f"…{name[-31:]}" for name, _, _ in found], fontsize=7)
    axes.invert_yaxis()
    axes.set(xlabel="accuracy in percent of single votes")
    axes.set_title(title, fontsize=9)
    axes.grid(axis="x", alpha=0.25)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=7, loc="outside lower center", ncols=4)
    return figure
