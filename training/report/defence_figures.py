"""Figures of the defence: accuracy under transfer against sigma, against eps, and certified against radius."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noisevote.training.report import defence_tables
from noisevote.training.report.defence_certified import PUBLIC, RADII, anytime_cells, fixed_rules
from noisevote.training.report.defence_numbers import over_noise, share
from noisevote.training.report.defence_records import Defence

DPI: Final = 110
SIZE: Final = (5.2, 3.4)


def draw(defence: Defence, out: Path) -> list[Path]:
    """Write the figures that the records suffice for, OUT/defence-….png; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    made = [_save(_transfer(defence, data_set), out / f"defence-{data_set}.png") for data_set in defence.transfer]
    if len(defence_tables.over_eps(defence.attacks)) > 1:
        made.append(_save(_eps(defence), out / "defence-eps.png"))
    if len(defence_tables.over_draws(defence.attacks)) > 1:
        made.append(_save(_draws(defence), out / "defence-draws.png"))
    if defence.square:
        made.append(_save(_square(defence), out / "defence-square.png"))
    if any(run.certified for run in defence.runs.values()):
        made.append(_save(_certified(defence), out / "defence-certified.png"))
    return made


def _transfer(defence: Defence, data_set: str) -> Figure:
    figure, axes = _panel("sigma", "accuracy, %")
    for record in defence.transfer[data_set]:
        cells = [cell for cell in record.cells if cell.inputs == "adversarial"]
        sigmas, single = [cell.sigma for cell in cells], [over_noise(cell) for cell in cells]
        (line,) = axes.plot(sigmas, [100 * found.estimate for found in single], "o--", markersize=3, linewidth=0.8)
        voted = [100 * float(cell.outcome.decisions.mean()) for cell in cells]
        axes.plot(sigmas, voted, "o-", markersize=3, color=line.get_color(), label=f"{record.variant}, 20 votes")
    axes.set_title("dashed: one run", fontsize=8)
    axes.legend(fontsize=7)
    return figure


def _eps(defence: Defence) -> Figure:
    figure, axes = _panel("eps", "accuracy under PGD, %")
    points = defence_tables.over_eps(defence.attacks)
    middle = np.array([100 * found.estimate for _, found, _ in points])
    spread = np.array([[100 * found.low, 100 * found.high] for _, found, _ in points]).T
    errors = np.abs(spread - middle)
    axes.errorbar([eps for eps, _, _ in points], middle, yerr=errors, marker="o", markersize=3, linewidth=0.9)
    axes.axhline(10, color="0.6", linewidth=0.7)
    return figure


def _draws(defence: Defence) -> Figure:
    figure, axes = _panel("draws a gradient", "accuracy of one vote, %")
    points = defence_tables.over_draws(defence.attacks)
    axes.plot([draws for draws, _, _ in points], [100 * accuracy for _, accuracy, _ in points], "o-", markersize=3)
    axes.set(xscale="log", ylim=(None, 100.5))
    return figure


def _square(defence: Defence) -> Figure:
    figure, axes = _panel("1 + queries about each image", "accuracy, %")
    for row in defence.square:
        queries, accuracies = zip(*row["curve"], strict=True)
        label = f"{row['variant']}, sigma {row['sigma']:g}, {row['votes']} a query"
        axes.plot([1 + query for query in queries], [100 * accuracy for accuracy in accuracies], label=label)
    axes.set(xscale="log", ylim=(0, 101))
    axes.legend(fontsize=7)
    return figure


def _certified(defence: Defence) -> Figure:
    figure, axes = _panel("radius", "certified accuracy, %")
    grid = np.linspace(0, 3, 121)
    colours: dict[float, Any] = {}
    for rule in fixed_rules(defence):
        rates = [100 * float((rule.radii >= radius).mean()) for radius in grid]
        (line,) = axes.plot(grid, rates, label=f"sigma {rule.sigma:g}, fixed rule", linewidth=0.9)
        colours[rule.sigma] = line.get_color()
    for record in defence.certified.values():
        cells = anytime_cells(record)
        at, right = [one.radius for one in cells], [share(one.right) for one in cells]
        middle = np.array([100 * rate.estimate for rate in right])
        errors = np.abs(np.array([[100 * rate.low, 100 * rate.high] for rate in right]).reshape(-1, 2).T - middle)
        axes.errorbar(
            at, middle, yerr=errors, fmt="o", markersize=3, linewidth=0.9, color=colours.get(record.sigma),
            label=f"sigma {record.sigma:g}, anytime rule",
        )  # fmt: skip
    axes.plot(RADII, PUBLIC, "k+", label="public code's best")
    axes.legend(fontsize=7)
    return figure


def _panel(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=across, ylabel=up)
    axes.grid(linewidth=0.3)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path
