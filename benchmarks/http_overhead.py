"""Votes per second through a server beside those of the same code in one process without HTTP, in turns.

    python -m benchmarks.http_overhead --out docs/results/http-overhead

Both have the same lanes and serve the same clients, which ask for votes on one digit again and again. Over HTTP
that is everything around the votes: connections, JSON, decoding the image, the answer's statistics, and the clients
themselves, which run on the same processors. `noisevote loadtest --in-process OUT.json` shows it beside its figures.
"""

import argparse
import asyncio
from itertools import count
from pathlib import Path

import numpy as np
import uvloop
from numpy.typing import NDArray
from PIL import Image

from benchmarks.closed_loop import Client, TurnsTaken, in_turns
from benchmarks.connections import Connections
from benchmarks.report import write
from benchmarks.server_process import DIGIT, PATH, client, serving
from benchmarks.serving_core import Core, load_core
from noisevote.loadtest.overhead import Overhead, OverheadPoint
from noisevote.loadtest.table import overhead_table
from noisevote.service.cpus import usable_cpus
from noisevote.service.scheduling.dispatcher import Dispatcher

TITLE = "Votes per second over HTTP and in one process"
HTTP, IN_PROCESS = "HTTP", "in process"


def main() -> None:
    """Measure every number of votes and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http_overhead", description=__doc__)
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--votes", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50, 100])
    parser.add_argument("--sigma", type=float, default=0.8)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--lanes", type=int, default=usable_cpus())
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turn-seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    core = load_core(options.model_store)
    with (
        serving(options.lanes, options.model_store) as (url, _),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as on,
    ):
        points = on.run(_measure(core, url, options))
    overhead = Overhead(
        clients=options.clients,
        sigma=options.sigma,
        lanes=options.lanes,
        rounds=options.rounds,
        turn_seconds=options.turn_seconds,
        points=tuple(points),
    )
    table = overhead_table(overhead)
    print(*table, sep="\n")
    if options.out:
        about = f"{options.clients} clients, sigma {options.sigma:g}, {options.lanes} lanes, {options.rounds} rounds."
        write(options.out, overhead.model_dump(), [about, "", *table], TITLE, core.model)


async def _measure(core: Core, url: str, options: argparse.Namespace) -> list[OverheadPoint]:
    connections = Connections(url, PATH)
    digit = _digit()
    points = []
    async with core.dispatching(options.lanes) as dispatcher:
        for votes in options.votes:
            asked: dict[str, list[Client]] = {
                HTTP: [client(connections, options.sigma, votes)] * options.clients,
                IN_PROCESS: [_without_http(core, dispatcher, digit, options.sigma, votes)] * options.clients,
            }
            points.append(point(votes, await in_turns(asked, options.rounds, options.turn_seconds)))
    connections.close()
    return points


def _without_http(core: Core, dispatcher: Dispatcher, digit: NDArray[np.float32], sigma: float, votes: int) -> Client:
    seeds = count()

    async def ask() -> int:
        answer = await dispatcher.vote(core.request(digit, sigma, votes, seed=next(seeds)))
        return int(answer.tally.votes_used.sum())

    return ask


def _digit() -> NDArray[np.float32]:
    """What the server makes of the PNG, float32 [1, 1, 28, 28]."""
    with Image.open(DIGIT) as image:
        return np.asarray(image, dtype=np.float32)[np.newaxis, np.newaxis] / np.float32(255)


def point(votes: int, found: dict[str, TurnsTaken]) -> OverheadPoint:
    """Medians of both, and of what HTTP keeps."""
    http, in_process = found[HTTP], found[IN_PROCESS]
    return OverheadPoint(
        votes=votes,
        http_votes_per_second=http.votes_per_second(),
        in_process_votes_per_second=in_process.votes_per_second(),
        kept=http.ratio(in_process),
        client_processors=http.own_processors(),
    )


if __name__ == "__main__":
    main()
