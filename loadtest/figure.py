"""A load test as a picture: latencies, votes per second, votes saved."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator, PercentFormatter

from noisevote.loadtest.measurement import Measurement, Percentiles
from noisevote.loadtest.overhead import Overhead
from noisevote.loadtest.phase import Part
from noisevote.loadtest.record import LoadTest

DPI: Final = 110
PERCENTILES: Final[dict[str, tuple[str, Callable[[Percentiles], float | None]]]] = {
    "p50": ("tab:blue", lambda found: found.p50),
    "p95": ("tab:orange", lambda found: found.p95),
    "p99": ("tab:red", lambda found: found.p99),
}


def draw(record: LoadTest, path: Path) -> None:
    """Write PATH, a PNG."""
    figure = Figure(figsize=(14, 8.5), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(2, 3).ravel()
    closed, opened, throughput, clients, saved, mixed = panels
    profile = record.profile
    opened.sharey(closed)  # before the lines are drawn, so that both are within
    _latencies(closed, record.of("votes"), _votes)
    closed.set(title=f"latency, closed loop of {profile.clients} clients", xlabel="votes", ylabel="ms")
    _latencies(opened, record.of("offered rate"), _votes)
    offered = f"{profile.rate:g} requests/s" if profile.rate else f"{100 * profile.load:g} % of that rate"
    opened.set(title=f"latency since due, open loop at {offered}", xlabel="votes", ylabel="ms")
    _throughput(throughput, record)
    _concurrency(clients, record)
    _saved(saved, record)
    _mixed(mixed, record)
    figure.suptitle(f"{record.model} {record.version} over HTTP, sigma {profile.sigma:g} where not said otherwise")
    figure.savefig(path, dpi=DPI, metadata={"Software": None})  # no version in it: the same record, the same bytes


def _votes(found: Measurement) -> float:
    return found.phase.votes[0]


def _clients(found: Measurement) -> float:
    return found.phase.load.clients if found.phase.load.kind == "closed" else 0


def _latencies(axes: Axes, found: Sequence[Measurement], x: Callable[[Measurement], float]) -> None:
    points = [(x(each), each.latency_ms) for each in found if each.latency_ms is not None]
    _percentiles(axes, points)
    _log_log(axes, [value for value, _ in points])


def _percentiles(axes: Axes, points: Sequence[tuple[float, Percentiles]], style: str = "-", label: str = "") -> None:
    for name, (colour, of) in PERCENTILES.items():
        known = [(x, value) for x, found in points if (value := of(found)) is not None]
        if known:
            axes.plot(*zip(*known, strict=True), f"o{style}", markersize=4, color=colour, label=f"{name}{label}")


def _throughput(axes: Axes, record: LoadTest) -> None:
    profile = record.profile
    for part, label, colour in (
        ("votes", "all votes cast", "tab:blue"),
        ("early stopping", f"rule {profile.rule}, votes asked for", "tab:green"),
    ):
        found = [each for each in record.measurements if each.phase.part == part]
        rates = [each.votes_asked / each.seconds for each in found]
        axes.plot([_votes(each) for each in found], rates, "o-", markersize=4, color=colour, label=f"HTTP, {label}")
    kept = _beside(axes, record.overhead, profile.usual_votes) if record.overhead else ""
    _log_log(axes, profile.votes)
    axes.set(title=f"throughput, {profile.clients} clients{kept}", xlabel="votes", ylabel="votes/s")


def _beside(axes: Axes, overhead: Overhead, usual_votes: int) -> str:
    """Draw what was measured in turns; returns what HTTP keeps of it with the usual votes, in words."""
    votes = [point.votes for point in overhead.points]
    rates = [point.http_votes_per_second for point in overhead.points]
    axes.plot(votes, rates, "s:", markersize=4, color="tab:cyan", label="HTTP, leaner client, in turns with …")
    rates = [point.in_process_votes_per_second for point in overhead.points]
    axes.plot(votes, rates, "s--", markersize=4, color="black", label="… in process, without HTTP")
    kept = [point.kept for point in overhead.points if point.votes == usual_votes]
    return "".join(f"\nHTTP keeps {share:.1%} of in process at {usual_votes} votes" for share in kept)


def _concurrency(axes: Axes, record: LoadTest) -> None:
    found = record.of("concurrency")
    _latencies(axes, found, _clients)
    beside = axes.twinx()
    rates = [each.votes_per_second for each in found]
    beside.plot([_clients(each) for each in found], rates, "s--", markersize=4, color="black")
    beside.set(ylabel="votes/s (dashed)", ylim=(0, 1.3 * max(rates, default=1)))
    axes.set(title=f"{record.profile.usual_votes} votes, by clients", xlabel="clients", ylabel="ms")


def _saved(axes: Axes, record: LoadTest) -> None:
    """Against votes, and on the same axis of shares against sigma."""
    profile = record.profile
    against_sigma = axes.twiny()
    lines: tuple[tuple[Axes, Part, Callable[[Measurement], float], str, str], ...] = (
        (axes, "early stopping", _votes, "o-", "tab:green"),
        (against_sigma, "sigma", lambda found: found.phase.sigma, "d--", "tab:purple"),
    )
    for panel, part, x, style, colour in lines:
        known = [(x(each), each.saved_share) for each in record.of(part) if each.saved_share is not None]
        if known:
            panel.plot(*zip(*known, strict=True), style, markersize=5, color=colour)
    _log_ticks(axes, profile.votes)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set(title=f"votes saved by rule {profile.rule}", ylabel="share of the votes asked for", ylim=(0, 1))
    axes.set_xlabel(f"votes, sigma {profile.sigma:g} (solid)", color="tab:green")
    against_sigma.set_xlabel(f"sigma, {profile.usual_votes} votes (dashed)", color="tab:purple")
    axes.grid(alpha=0.25)


def _mixed(axes: Axes, record: LoadTest) -> None:
    for found, style in zip(record.of("mixed votes"), ("-", "--"), strict=False):
        rule = "" if found.phase.rule == "fixed" else f", rule {found.phase.rule}"
        _percentiles(axes, list(found.latency_ms_by_votes.items()), style, rule)
    _log_log(axes, record.profile.votes)
    axes.set(title=f"mixed votes, {record.profile.clients} clients", xlabel="votes of the request", ylabel="ms")


def _log_log(axes: Axes, ticks: Sequence[float]) -> None:
    _log_ticks(axes, ticks)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _log_ticks(axes: Axes, ticks: Sequence[float]) -> None:
    """A tick at each measured point."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))


def _plain(value: float, _: object) -> str:
    return f"{value:g}"
