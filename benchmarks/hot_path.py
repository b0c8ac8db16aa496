"""One-vote requests per second of this server and of an earlier one, in turns.

    python -m benchmarks.hot_path --before http://127.0.0.1:8001 --out docs/results/hot-path

The earlier server is to be started beforehand, with the models and as many lanes; its processor time is not known here.
Ratios are taken round by round, and their interval is that of Student's t.
"""

import argparse
import asyncio
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import uvloop
from scipy import stats

from benchmarks.closed_loop import Client, TurnsTaken, in_turns
from benchmarks.connections import Connections
from benchmarks.report import write
from benchmarks.server_process import PATH, client, served_model, serving
from noisevote.service.cpus import usable_cpus

TITLE: Final = "One-vote requests per second, now and before"
HEADER: Final = ("| server | requests/s | median | 99th percentile |", "|---|---|---|---|")
NOW, BEFORE = "now", "before"


@dataclass(frozen=True)
class Interval:
    """A mean and its interval of 95 % confidence."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Interval":
        """Of at least two values."""
        mean, error = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
        half = float(stats.t.ppf(0.975, len(values) - 1)) * error
        return cls(mean, mean - half, mean + half)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path", description=__doc__)
    parser.add_argument("--before", required=True, help="address of the earlier server")
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--sigma", type=float, default=0.8)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--lanes", type=int, default=usable_cpus())
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--turn-seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with (
        serving(options.lanes, options.model_store) as (url, _),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as on,
    ):
        found = on.run(_measure({NOW: url, BEFORE: options.before}, options))
        model = served_model(url)
    ratio = Interval.of(ratios(found))
    figures = {name: _figures(turns) for name, turns in found.items()} | {"now ÷ before": asdict(ratio)}
    rows = [*HEADER, *(_row(name, turns) for name, turns in found.items())]
    said = f"Now ÷ before: {ratio.mean:.3f}, 95 % interval {ratio.low:.3f} to {ratio.high:.3f}."
    about = f"{options.clients} clients, sigma {options.sigma:g}, {options.lanes} lanes, {options.rounds} rounds."
    print(*rows, said, sep="\n")
    if options.out:
        write(options.out, figures, [about, "", *rows, "", said], TITLE, model)


async def _measure(urls: dict[str, str], options: argparse.Namespace) -> dict[str, TurnsTaken]:
    connections = {name: Connections(url, PATH) for name, url in urls.items()}
    asked: dict[str, list[Client]] = {
        name: [client(each, options.sigma, 1)] * options.clients for name, each in connections.items()
    }
    found = await in_turns(asked, options.rounds, options.turn_seconds)
    for each in connections.values():
        each.close()
    return found


def ratios(found: dict[str, TurnsTaken]) -> list[float]:
    """Requests per second now ÷ before, round by round."""
    pairs = zip(found[NOW].turns, found[BEFORE].turns, strict=True)
    return [now.votes_per_second / before.votes_per_second for now, before in pairs]


def _figures(turns: TurnsTaken) -> dict[str, float]:
    return {
        "requests_per_second": turns.votes_per_second(),
        "p50_ms": turns.percentile_ms(50),
        "p99_ms": turns.percentile_ms(99),
        "client_processors": turns.own_processors(),
    }


def _row(name: str, turns: TurnsTaken) -> str:
    times = " | ".join(f"{turns.percentile_ms(q):.1f} ms" for q in (50, 99))
    return f"| {name} | {turns.votes_per_second():.0f} | {times} |"


if __name__ == "__main__":
    main()
