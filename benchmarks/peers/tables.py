"""The table and the figure of rounds that were measured."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.peers.rounds import OURS

Round = dict[str, Any]  # contender → way of asking → figures
HEADER: Final = (
    "| server | 1 vote, requests/s | 20 votes, requests/s | one vote beside 4 × 100, 99th percentile | "
    "100-vote requests/s then | one vote beside 4 × 1000, 99th percentile | 1000-vote requests/s then |"
)
ALONE: Final = ("1", "20")
BESIDE: Final = ("beside 100", "beside 1000")


def summary(rounds: Sequence[Round]) -> dict[str, dict[str, Any]]:
    """Medians with quartiles over the rounds, by contender; latencies beside others are of all rounds together."""
    names = list(dict.fromkeys(name for each in rounds for name in each))
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        mine = [each[name] for each in rounds if name in each]
        figures: dict[str, Any] = {"rounds": len(mine)}
        for way in ALONE:
            figures[f"{way} votes, requests/s"] = _spread([each[way]["requests_per_second"] for each in mine])
            figures[f"{way} votes, client processors"] = statistics.median(
                each[way]["client_processors"] for each in mine
            )
        for way in BESIDE:
            small = [ms for each in mine for ms in each[way]["small_ms"]]
            figures[f"one vote {way}, ms"] = dict(
                zip(("p50", "p99", "answers"), (*map(float, np.percentile(small, (50, 99))), len(small)), strict=True)
            )
            figures[f"{way}, requests/s"] = _spread([each[way]["large_per_second"] for each in mine])
        found[name] = figures
    return found


def ratios(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Requests per second of ours ÷ the best peer's of the same round: medians with quartiles."""
    found = {}
    for way in ALONE:
        each = [
            measured[OURS][way]["requests_per_second"]
            / max(other[way]["requests_per_second"] for name, other in measured.items() if name != OURS)
            for measured in rounds
            if len(measured) > 1 and OURS in measured
        ]
        if each:
            found[f"{way} votes, ours ÷ best peer"] = _spread(each)
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, median, high = np.percentile(values, (25, 50, 75))
    return {"median": float(median), "lower_quartile": float(low), "upper_quartile": float(high)}


def table(found: dict[str, dict[str, Any]], against: dict[str, dict[str, float]]) -> list[str]:
    """Rows for people."""
    rows = [HEADER, "|---" * 7 + "|"]
    for name, figures in found.items():
        cells = [_cell(figures[f"{way} votes, requests/s"]) for way in ALONE]
        for way in BESIDE:
            cells += [f"{figures[f'one vote {way}, ms']['p99']:.1f} ms", _cell(figures[f"{way}, requests/s"], 2)]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    said = [
        f"{what}: {each['median']:.2f} ({each['lower_quartile']:.2f} to {each['upper_quartile']:.2f})."
        for what, each in against.items()
    ]
    return [*rows, "", *said]


def _cell(spread: dict[str, float], digits: int = 0) -> str:
    low, high = spread["lower_quartile"], spread["upper_quartile"]
    return f"{spread['median']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Three panels of bars, ours first."""
    names = list(found)[::-1]
    panels = (
        ("1 vote, requests/s", [found[name]["1 votes, requests/s"]["median"] for name in names]),
        ("20 votes, requests/s", [found[name]["20 votes, requests/s"]["median"] for name in names]),
        ("1 vote beside 4 × 100, p99 in ms", [found[name]["one vote beside 100, ms"]["p99"] for name in names]),
    )
    figure = Figure(figsize=(11, 0.5 * len(names) + 1.2), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        colours = ["#0969da" if name == OURS else "#9198a1" for name in names]
        bars = axes.barh(names, values, color=colours)
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=9)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlim(0, 1.18 * max(values))
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(length=0, labelsize=9, labelbottom=False)
    with mpl.rc_context({"svg.hashsalt": "noisevote"}):
        figure.savefig(path, metadata={"Date": None, "Creator": None})
