"""The picture of what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

OURS_COLOUR, OTHERS_COLOUR, TEXT_COLOUR = "#0969da", "#afb8c1", "#1f2328"
BAR_INCHES: Final = 0.27


@dataclass(frozen=True)
class Panel:
    """Bars of one way of asking, the best first: names, medians and (low, high) around them where they are known."""

    title: str
    unit: str
    bars: Sequence[tuple[str, float, tuple[float, float] | None]]


def draw(panels: Sequence[Sequence[Panel]], path: Path, ours: str) -> None:
    """A grid of panels; bars whose names begin with `ours` stand out."""
    heights = [max(len(panel.bars) for panel in row) + 1.6 for row in panels]
    columns = max(map(len, panels))
    figure = Figure(figsize=(5.6 * columns, BAR_INCHES * sum(heights) + 0.2), layout="constrained")
    figure.patch.set_facecolor("white")
    grid = figure.add_gridspec(len(panels), columns, height_ratios=heights)
    for row, each in enumerate(panels):
        for column, panel in enumerate(each):
            _bars(figure.add_subplot(grid[row, column]), panel, ours)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _bars(axes: Axes, panel: Panel, ours: str) -> None:
    names = [name for name, _, _ in panel.bars]
    values = [value for _, value, _ in panel.bars]
    colours = [OURS_COLOUR if name.startswith(ours) else OTHERS_COLOUR for name in names]
    axes.barh(names, values, color=colours, height=0.72)
    ends = []
    for place, (_, value, around) in enumerate(panel.bars):
        low, high = around or (value, value)
        if around is not None:
            axes.plot([low, high], [place, place], color=TEXT_COLOUR, linewidth=1, alpha=0.6)
        ends.append(max(value, high))
    for place, (value, end) in enumerate(zip(values, ends, strict=True)):
        text = f" {value:.0f} {panel.unit}" if value >= 10 else f" {value:.1f} {panel.unit}"
        axes.text(end, place, text, va="center", fontsize=8, color=TEXT_COLOUR)
    axes.invert_yaxis()
    axes.set_title(panel.title, loc="left", fontsize=10, color=TEXT_COLOUR)
    axes.set_xlim(0, 1.22 * max(ends))
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelbottom=False, labelcolor=TEXT_COLOUR)
