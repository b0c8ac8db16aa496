"""The experiments as pictures: errors against sigma and against votes, learning curves, scattered outputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from noisevote.noise_op.contract import NoiseKind
from noisevote.training.measure.outputs import Outputs
from noisevote.training.report import paper
from noisevote.training.report.record import Record, trained_for

DPI: Final = 110
Colour = tuple[float, float, float, float]

FLOOR: Final = 1e-4  # error of a test without a wrong decision, on a log axis


def draw(network: str, runs: Sequence[Record], scattered: Outputs | None, out: Path) -> list[Path]:
    """Write the figures that the records suffice for, OUT/<network>-….png; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    made = []
    for noise in ("multiplicative", "additive"):
        of_kind = [run for run in trained_for(runs, noise) if run.most_votes(noise) > 0]
        if of_kind:
            made.append(_save(_errors(network, of_kind, noise), out / f"{network}-{noise}-errors.png"))
        if any(run.most_votes(noise) > 1 for run in of_kind):
            made.append(_save(_votes(of_kind, noise), out / f"{network}-{noise}-votes.png"))
    made.append(_save(_learning(runs), out / f"{network}-learning.png"))
    if scattered is not None:
        made.append(_save(_outputs(scattered), out / f"{network}-outputs.png"))
    return made


def _errors(network: str, runs: Sequence[Record], noise: NoiseKind) -> Figure:
    figure, (one, voted) = _panels(2)
    reported = paper.reported(network, noise)
    theirs = ((one, reported and reported.one_run), (voted, reported and reported.voted))
    for axes, votes in ((one, 1), (voted, paper.VOTES)):
        for run, colour in zip(runs, _colours(runs), strict=True):
            points = [(sigma, found) for sigma in paper.SIGMAS if (found := run.measured(noise, sigma, votes))]
            if len(points) > 1:
                sigmas, ours = zip(*((sigma, _error(found.accuracy)) for sigma, found in points), strict=True)
                axes.plot(sigmas, ours, marker="o", markersize=3, color=colour, label=f"σ_train {run.sigma_train:g}")
        axes.set(xlabel=f"sigma ({noise})", ylabel="error", yscale="log")
        axes.set_title("one run" if votes == 1 else f"{votes} votes")
    for axes, row in theirs:
        if row:
            errors = [_error(value / 100) for value in row]
            axes.plot(paper.SIGMAS, errors, "k+--", linewidth=0.8, label="paper, best σ_train")
        axes.legend(fontsize=7)
    return figure


def _votes(runs: Sequence[Record], noise: NoiseKind) -> Figure:
    """Draw error against votes, for each sigma of the run that is best there at most votes: the paper's Figure 11."""
    figure, (axes,) = _panels(1)
    for sigma in paper.SIGMAS[1:]:
        colour = colormaps["plasma"](0.9 * sigma)
        cells = [(run, cell) for run in runs if (cell := run.evaluation.cell(noise, sigma)) and cell.passes > 1]
        if not cells:
            continue
        run, cell = max(cells, key=lambda pair: (pair[1].passes, pair[1].measured[-1].accuracy))
        counts = [found.votes for found in cell.measured]
        label = f"sigma {sigma:g}, {run.variant}"
        axes.plot(
            counts, [_error(m.accuracy) for m in cell.measured], marker="o", markersize=3, color=colour, label=label
        )
        soft = [(m.votes, _error(m.soft_accuracy)) for m in cell.measured if m.soft_accuracy is not None]
        if soft:
            axes.plot(*zip(*soft, strict=True), ":", color=colour)
    axes.set(xlabel="votes (solid: mode, dotted: mean probability)", ylabel="error", xscale="log", yscale="log")
    axes.legend(fontsize=7)
    return figure


def _learning(runs: Sequence[Record]) -> Figure:
    figure, (loss, accuracy) = _panels(2)
    for run, colour in zip(runs, _colours(runs), strict=True):
        epochs = [epoch.epoch for epoch in run.epochs]
        style = "-" if run.noise == "multiplicative" else "--"
        loss.plot(epochs, [epoch.loss for epoch in run.epochs], style, color=colour, label=run.variant)
        errors = [_error(epoch.glance_one_vote) for epoch in run.epochs]
        accuracy.plot(epochs, errors, style, color=colour)
    for axes in (loss, accuracy):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss.set(xlabel="epoch", ylabel="training loss", yscale="log")
    accuracy.set(xlabel="epoch", ylabel="error of one run at σ_train (quick evaluation)", yscale="log")
    loss.legend(fontsize=7)
    return figure


def _outputs(scattered: Outputs) -> Figure:
    """Median, quartiles and 5 % to 95 % of each class's logit; the label's in another colour."""
    figure = Figure(figsize=(3.2 * len(scattered.sigmas), 2.6 * len(scattered.logits)), layout="constrained")
    grid = figure.subplots(len(scattered.logits), len(scattered.sigmas), sharex=True, squeeze=False)
    for row, (variant, by_sigma) in zip(grid, scattered.logits.items(), strict=True):
        for axes, sigma, by_class in zip(row, scattered.sigmas, by_sigma, strict=True):
            for label, (least, lower, middle, upper, most) in enumerate(by_class):
                colour = "tab:red" if label == scattered.label else "tab:gray"
                axes.plot([label, label], [least, most], color=colour, linewidth=1)
                axes.plot([label, label], [lower, upper], color=colour, linewidth=5)
                axes.plot([label], [middle], "_", color="black", markersize=9)
            axes.set_title(f"{variant}, sigma {sigma:g}", fontsize=9)
            axes.set_xticks(range(len(by_class)))
    for axes in grid[-1]:
        axes.set_xlabel("class")
    for axes in grid[:, 0]:
        axes.set_ylabel("logit")
    return figure


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(5.0 * count, 3.8), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, count, squeeze=False)[0]
    for axes in panels:
        axes.grid(which="both", alpha=0.25)
    return figure, panels


def _colours(runs: Sequence[Record]) -> Sequence[Colour]:
    """Give each run the colour of its σ_train, which is the same in every figure: dark to light from 0 to 1."""
    return [colormaps["viridis"](0.92 * min(1.0, run.sigma_train)) for run in runs]


def _error(accuracy: float) -> float:
    return max(FLOOR, 1 - accuracy)


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=DPI, metadata={"Software": None})  # no version in it: the same records, the same bytes
    return path
