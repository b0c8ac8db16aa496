"""The table and the figure of the README, made from the records in docs/results.

    python -m benchmarks.front_page

Writes docs/results/front-page.md, with the table, and front-page-light.svg and front-page-dark.svg beside it.
Nothing is measured: the same records give the same bytes, and a test holds them together.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noisevote.training.report.paper import SIGMAS, VOTES
from noisevote.training.report.record import Record, best, read_all

RESULTS: Final = Path(__file__).resolve().parent.parent / "docs" / "results"
HTTP_RECORD: Final = "mnist-cnn-http.json"
HEADER: Final = (
    f"| sigma | one run % | paper, one run % | {VOTES} votes % | paper, {VOTES} votes % |",
    "|---|---|---|---|---|",
)
PANELS: Final = (("mnist-cnn", "MNIST digits"), ("cifar10-cnn", "CIFAR-10 photographs"))


@dataclass(frozen=True)
class Theme:
    """Colours for one kind of page; the background is the page's own."""

    ink: str
    faint: str
    grid: str
    noiseless: str
    one_run: str
    voted: str


THEMES: Final = {
    "light": Theme("#1f2328", "#59636e", "#d1d9e0", "#cf222e", "#9a6700", "#0969da"),
    "dark": Theme("#f0f6fc", "#9198a1", "#3d444d", "#ff7b72", "#e3b341", "#58a6ff"),
}


@dataclass(frozen=True)
class Line:
    """Errors in percent, one for each of SIGMAS."""

    label: str
    colour: str
    errors: tuple[float, ...]


def make(results: Path, out: Path) -> list[Path]:
    """Write the table and both figures into OUT; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    page = out / "front-page.md"
    page.write_text("\n".join(_page(json.loads((results / HTTP_RECORD).read_text()))))
    records = read_all(results / "runs")
    figures = [_draw(records, theme, out / f"front-page-{name}.svg") for name, theme in THEMES.items()]
    return [page, *figures]


def _page(record: dict[str, Any]) -> list[str]:
    about = f"{record['model']}, all 10,000 MNIST test images over HTTP, multiplicative noise, variant `auto`."
    source = f"Made by `python -m benchmarks.front_page` from [its record]({HTTP_RECORD.replace('.json', '.md')})."
    pictures = [f"![Errors against sigma](front-page-{name}.svg)" for name in THEMES]
    return ["# The README's table and figure", "", f"{about} {source}", "", *_table(record), "", *pictures, ""]


def _table(record: dict[str, Any]) -> list[str]:
    rows = (
        (point["one_run_percent"], point["one_run_paper_percent"], point["accuracy_percent"], point["paper_percent"])
        for point in record["figures"]
    )
    sigmas = (point["sigma"] for point in record["figures"])
    return [
        *HEADER,
        *(
            f"| {sigma:.1f} | {one_run:.2f} | {paper_one:.1f} | {voted:.2f} | {paper_voted:.1f} |"
            for sigma, (one_run, paper_one, voted, paper_voted) in zip(sigmas, rows, strict=True)
        ),
    ]


def _draw(records: dict[str, list[Record]], theme: Theme, path: Path) -> Path:
    figure = Figure(figsize=(9.6, 4.2))
    figure.subplots_adjust(left=0.07, right=0.93, top=0.79, bottom=0.14, wspace=0.28)
    panels: Sequence[Axes] = figure.subplots(1, len(PANELS))
    for axes, (network, title) in zip(panels, PANELS, strict=True):
        _panel(axes, _lines(records[network], theme), theme)
        axes.set_title(title, loc="left", color=theme.ink, fontsize=12, fontweight="bold", pad=12)
    panels[0].set_ylabel("wrong answers (%)", color=theme.faint, fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.058, 0.995), ncols=len(labels), frameon=False,
        labelcolor="linecolor", fontsize=10.5, handlelength=1.6, columnspacing=2.2,
    )  # fmt: skip
    # Ids without randomness and no date: the same records, the same bytes.
    with mpl.rc_context({"svg.hashsalt": "noisevote"}):
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    return path


def _lines(runs: Sequence[Record], theme: Theme) -> tuple[Line, ...]:
    """As the report has them: of each sigma the run of best σ_train."""
    trained = [run for run in runs if run.calibrated_at is None]
    noiseless = [run for run in trained if run.sigma_train == 0 and run.noise == "multiplicative"]
    return (
        Line("trained without noise, one run", theme.noiseless, _errors(noiseless, 1)),
        Line("trained with noise, one run", theme.one_run, _errors(trained, 1)),
        Line(f"trained with noise, {VOTES} votes", theme.voted, _errors(trained, VOTES)),
    )


def _errors(runs: Sequence[Record], votes: int) -> tuple[float, ...]:
    found = [best(runs, "multiplicative", sigma, votes) for sigma in SIGMAS]
    return tuple(100 * (1 - pair[1].accuracy) for pair in found if pair is not None)


def _panel(axes: Axes, lines: Sequence[Line], theme: Theme) -> None:
    for line in lines:
        heavy = line is lines[-1]
        axes.plot(
            SIGMAS, line.errors, color=line.colour, linewidth=3 if heavy else 2, solid_capstyle="round",
            marker="o", markersize=6 if heavy else 4.5, clip_on=False, zorder=4 if heavy else 3, label=line.label,
        )  # fmt: skip
        last = line.errors[-1]
        axes.annotate(
            f"{last:.1f} %" if last < 1 else f"{last:.0f} %", (SIGMAS[-1], last), xytext=(9, 0),
            textcoords="offset points", color=line.colour, fontsize=11, va="center", annotation_clip=False,
            fontweight="bold",
        )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 100), yticks=range(0, 101, 25), xticks=SIGMAS)
    axes.set_xlabel("sigma of the multiplicative noise", color=theme.faint, fontsize=10)
    axes.tick_params(colors=theme.faint, length=0, pad=8, labelsize=9.5)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(theme.grid)


def main() -> None:
    """Make them again."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.front_page", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: docs/results")
    for path in make(RESULTS, parser.parse_args().out):
        print(path)


if __name__ == "__main__":
    main()
