"""Figures of the defence: accuracy under transfer against sigma, against eps, and certified against radius."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noisevote.training.report import defence_tables
from noisevote.training.report.defence_certified import PUBLIC, RADII, anytime_cells, fixed_rules
from noisevote.training.report.defence_floor import over_draws, over_images
from noisevote.training.report.defence_numbers import Interval, over_noise, share
from noisevote.training.report.defence_records import Defence

DPI: Final = 110
SIZE: Final = (5.2, 3.4)


def draw(defence: Defence, out: Path) -> list[Path]:
    """Write the figures that the records suffice for, OUT/defence-….png; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    made = [_save(_transfer(defence, data_set), out / f"defence-{data_set}.png") for data_set in defence.transfer]
    if len(defence_tables.over_eps(defence.attacks)) > 1:
        made.append(_save(_eps(defence), out / "defence-eps.png"))
    if len(over_draws(defence.attacks)) > 1:
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
        voted = [share(cell.outcome.decisions) for cell in cells]
        _with_bars(axes, sigmas, voted, "o-", color=line.get_color(), label=f"{record.variant}, 20 votes")
    axes.set_title("Under transfer; dashed: one run; bars: 95 % over images", fontsize=8)
    axes.legend(fontsize=7)
    return figure


def _eps(defence: Defence) -> Figure:
    figure, axes = _panel("eps", "accuracy under PGD, %")
    points = defence_tables.over_eps(defence.attacks)
    _with_bars(axes, [eps for eps, _, _ in points], [found for _, found, _ in points], "o-", label="robust, sigma 0")
    axes.axhline(10, color="0.6", linewidth=0.7, label="chance")
    axes.set_title("PGD of 20 steps; bars: 95 % over images", fontsize=8)
    axes.legend(fontsize=7)
    return figure


def _draws(defence: Defence) -> Figure:
    figure, axes = _panel("draws a gradient", "accuracy of one vote, %")
    records = over_draws(defence.attacks)
    for steps in sorted({record.steps["iterations"] for record in records}):
        some = [record for record in records if record.steps["iterations"] == steps]
        at = [record.draws * (steps / 20) ** 0.05 for record in some]  # beside each other, not on
        _with_bars(axes, at, [over_images(record) for record in some], "o-", label=f"{steps} steps")
    ticks = sorted({record.draws for record in records})
    axes.set(xscale="log", ylim=(90, 100.5))
    axes.set_title("EOT-PGD, sigma 0.3; bars: 95 % over images", fontsize=8)
    axes.set_xticks(ticks, labels=[str(draws) for draws in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=7)
    return figure


def _square(defence: Defence) -> Figure:
    figure, axes = _panel("1 + queries about each image", "accuracy, %")
    for number, row in enumerate(sorted(defence.square, key=defence_tables.square_order)):
        queries, accuracies = zip(*row["curve"], strict=True)
        label = f"{row['model']}, sigma {row['sigma']:g}, {row['votes']} a query"
        axes.plot(
            [1 + query for query in queries], [100 * accuracy for accuracy in accuracies], label=label,
            linestyle=("-", "--", ":", "-.")[number % 4], marker="os^vD"[number % 5], markersize=3, linewidth=1.0,
        )  # fmt: skip
    axes.set(xscale="log", ylim=(-2, 103))
    axes.set_title("Square attack through answers, on 200 images", fontsize=8)
    axes.legend(fontsize=7, loc="center right")
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
        _with_bars(
            axes, [one.radius for one in cells], [share(one.right) for one in cells], "o",
            color=colours.get(record.sigma), label=f"sigma {record.sigma:g}, anytime rule",
        )  # fmt: skip
    axes.plot(RADII, PUBLIC, "k+", label="public code's best")
    axes.legend(fontsize=7)
    return figure


def _with_bars(axes: Axes, at: Sequence[float], found: Sequence[Interval], style: str, **looks: Any) -> None:
    middle = np.array([100 * one.estimate for one in found])
    ends = np.array([[100 * one.low, 100 * one.high] for one in found]).reshape(-1, 2).T
    axes.errorbar(at, middle, yerr=np.abs(ends - middle), fmt=style, markersize=3, linewidth=0.9, **looks)


def _panel(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=across, ylabel=up)
    axes.grid(linewidth=0.3)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path
