"""One server process with many lanes beside several processes with fewer, in turns.

    python -m benchmarks.workers --out docs/results/workers

All processes of all layouts run all the time, each on a port of its own; clients are spread evenly over those of the
layout whose turn it is, which is the best that a balancer before them could do. A layout PxL is P processes of L lanes.
"""

import argparse
import asyncio
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import uvloop

from benchmarks.closed_loop import TurnsTaken, in_turns
from benchmarks.connections import Connections
from benchmarks.report import write
from benchmarks.server_process import PATH, client, served_model, serving
from noisevote.service.cpus import usable_cpus

TITLE = "How many processes on one machine"
HEADER = "| votes | processes × lanes | votes/s | ÷ first | p50 ms | p99 ms | requests | memory MiB |"
RULE = "|---|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Layout:
    """So many server processes of so many lanes each."""

    processes: int
    lanes: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `2x1`."""
        found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
        if found is None:
            raise argparse.ArgumentTypeError(f"{text!r} is not PROCESSESxLANES, such as 2x1")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.processes} × {self.lanes}"


@dataclass(frozen=True)
class Servers:
    """A layout at work."""

    urls: Sequence[str]
    process_ids: Sequence[int]

    def memory_mib(self) -> float:
        """Memory of its processes; what several share counts in parts (Linux's proportional set size)."""
        rollups = (Path(f"/proc/{process_id}/smaps_rollup").read_text() for process_id in self.process_ids)
        return sum(int(found[1]) for text in rollups if (found := re.search(r"^Pss:\s+(\d+) kB", text, re.M))) / 1024


@dataclass(frozen=True)
class Point:
    """A layout's figures for requests of so many votes: medians over the rounds, latencies over all requests."""

    votes: int
    layout: str
    votes_per_second: float
    ratio_to_first: float
    p50_ms: float
    p99_ms: float
    requests: int
    memory_mib: float


def main() -> None:
    """Measure every layout with every number of votes and print the table."""
    cpus = usable_cpus()
    layouts = list(dict.fromkeys((Layout(1, cpus), Layout(cpus, 1))))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--layouts", type=Layout.parse, nargs="+", default=layouts, metavar="PxL")
    parser.add_argument("--votes", type=int, nargs="+", default=[1, 20, 100])
    parser.add_argument("--sigma", type=float, default=0.8)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turn-seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as on:
        servers = {str(layout): _start(stack, layout, options.model_store) for layout in options.layouts}
        model = served_model(next(iter(servers.values())).urls[0])
        points = [point for votes in options.votes for point in on.run(_measure(servers, votes, options))]
    table = [HEADER, RULE, *map(row, points)]
    print(*table, sep="\n")
    if options.out:
        rounds = f"{options.rounds} rounds of {options.turn_seconds:g} s"
        about = f"{options.clients} clients, sigma {options.sigma:g}, {rounds}."
        write(options.out, [asdict(point) for point in points], [about, "", *table], TITLE, model)


def _start(stack: ExitStack, layout: Layout, store: Path) -> Servers:
    """One after another, as each measures its models' pace when it starts."""
    started = [stack.enter_context(serving(layout.lanes, store)) for _ in range(layout.processes)]
    return Servers([url for url, _ in started], [process_id for _, process_id in started])


async def _measure(servers: dict[str, Servers], votes: int, options: argparse.Namespace) -> list[Point]:
    connections = {url: Connections(url, PATH) for each in servers.values() for url in each.urls}
    asked = {
        layout: [
            client(connections[each.urls[number % len(each.urls)]], options.sigma, votes)
            for number in range(options.clients)
        ]
        for layout, each in servers.items()
    }
    found = await in_turns(asked, options.rounds, options.turn_seconds)
    for each in connections.values():
        each.close()
    return points(votes, found, {layout: each.memory_mib() for layout, each in servers.items()})


def points(votes: int, found: dict[str, TurnsTaken], memory_mib: dict[str, float]) -> list[Point]:
    """Figures of each layout, beside those of the first."""
    first = next(iter(found.values()))
    return [
        Point(
            votes=votes,
            layout=layout,
            votes_per_second=turns.votes_per_second(),
            ratio_to_first=turns.ratio(first),
            p50_ms=turns.percentile_ms(50),
            p99_ms=turns.percentile_ms(99),
            requests=sum(len(turn.latencies) for turn in turns.turns),
            memory_mib=memory_mib[layout],
        )
        for layout, turns in found.items()
    ]


def row(point: Point) -> str:
    """A line of the table."""
    cells = [
        str(point.votes),
        point.layout,
        f"{point.votes_per_second:.0f}",
        f"{point.ratio_to_first:.3f}",
        f"{point.p50_ms:.1f}",
        f"{point.p99_ms:.1f}",
        str(point.requests),
        f"{point.memory_mib:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
