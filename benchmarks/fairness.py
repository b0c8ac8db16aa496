"""One vote among clients that keep 1000-vote requests running: how long it takes, beside first-come-first-served.

    python -m benchmarks.fairness --out docs/results/fairness

In one process, without HTTP, because it is the scheduler that is compared. Both orders take turns. The batch
time is the median over all batches, from handing one to a lane until its votes are counted, as /metrics has it.
"""

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import write
from benchmarks.serving_core import Core, load_core
from noisevote.service.cpus import usable_cpus
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.progress import Progress
from noisevote.service.scheduling.turns import FairTurns, NewTurns
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load

TITLE = "One vote among 1000-vote requests"
HEADER = "| order | 1-vote requests | median | 99th percentile | longest | batch time | 99th percentile ÷ batch time |"
RULE = "|---|---|---|---|---|---|---|"
LARGE_VOTES = 1000
SIGMA = 1.0
PAUSE_S = 0.02  # mean of the exponential pauses between probes


class FirstComeFirstServed(dict[Progress, None]):
    """What is compared: the oldest request takes all rows that it can use, then the next."""

    def join(self, progress: Progress) -> None:
        """At the end."""
        self[progress] = None

    def leave(self, progress: Progress) -> None:
        """From wherever it stands."""
        del self[progress]

    def allot(self, rows: int, most: int) -> dict[Progress, int]:  # noqa: ARG002  # of `Turns`
        """Exactly `rows` rows, or all that wait."""
        allotted: dict[Progress, int] = {}
        room = rows
        while room and self:
            progress = next(iter(self))
            allotted[progress] = given = min(room, progress.wanted)
            room -= given
            if given == progress.wanted:
                self.leave(progress)
        return allotted


ORDERS: dict[str, NewTurns] = {
    "weighted fair queueing": FairTurns,
    "first come, first served": FirstComeFirstServed,
}


@dataclass
class Seen:
    """Seconds of the probes, and of the batches meanwhile."""

    probes: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)


def main() -> None:
    """Measure both orders in turns and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--clients", type=int, default=4, help="clients with large requests")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=15.0, help="a turn of each order")
    parser.add_argument("--lanes", type=int, default=usable_cpus())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    core = load_core(options.model_store)
    images = load("mnist", DataSource.from_environment()).test.first(options.clients + 1).values(slice(None))
    seen = {name: Seen() for name in ORDERS}
    for round_ in range(options.rounds):
        for name, turns in ORDERS.items():
            asyncio.run(_turn(core, images, turns, seen[name], options, round_))
    figures = {name: _figures(each) for name, each in seen.items()}
    table = [HEADER, RULE, *(_row(name, each) for name, each in figures.items())]
    print(*table, sep="\n")
    if options.out:
        about = f"{options.clients} clients keep requests of {LARGE_VOTES} votes running, {options.lanes} lanes."
        write(options.out, figures, [about, "", *table], TITLE, core.model)


async def _turn(
    core: Core, images: NDArray[np.float32], turns: NewTurns, seen: Seen, options: argparse.Namespace, round_: int
) -> None:
    pauses = np.random.default_rng(round_)
    async with core.dispatching(options.lanes, lambda result: seen.batches.append(result.seconds), turns) as dispatcher:
        large = [asyncio.create_task(_keep_asking(core, dispatcher, images, i)) for i in range(options.clients)]
        await asyncio.sleep(0.5)
        end = time.perf_counter() + options.seconds
        while time.perf_counter() < end:
            await asyncio.sleep(pauses.exponential(PAUSE_S))
            began = time.perf_counter()
            await dispatcher.vote(core.request(images[-1:], SIGMA, 1, variant_votes=LARGE_VOTES))
            seen.probes.append(time.perf_counter() - began)
        for task in large:
            task.cancel()
        await asyncio.gather(*large, return_exceptions=True)


async def _keep_asking(core: Core, dispatcher: Dispatcher, images: NDArray[np.float32], client: int) -> None:
    seed = client << 32
    while True:
        await dispatcher.vote(core.request(images[client : client + 1], SIGMA, LARGE_VOTES, seed=seed))
        seed += 1


def _figures(seen: Seen) -> dict[str, float]:
    batch = statistics.median(seen.batches)
    last = float(np.percentile(seen.probes, 99))
    return {
        "requests": len(seen.probes),
        "median_ms": 1e3 * statistics.median(seen.probes),
        "p99_ms": 1e3 * last,
        "longest_ms": 1e3 * max(seen.probes),
        "batch_ms": 1e3 * batch,
        "p99_in_batch_times": last / batch,
    }


def _row(name: str, figures: dict[str, float]) -> str:
    times = [f"{figures[key]:.1f} ms" for key in ("median_ms", "p99_ms", "longest_ms", "batch_ms")]
    cells = [name, str(figures["requests"]), *times, f"{figures['p99_in_batch_times']:.1f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
