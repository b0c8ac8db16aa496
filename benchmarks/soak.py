"""Minutes of full load with abuse beside it: no answer may be wrong, and nothing may grow.

    python -m benchmarks.soak --seconds 600 --out docs/results/soak

Good clients repeat a few hundred requests whose answers were noted before, while nothing else was asked. Memory and
open descriptors of the server are looked at every second, before the abuse, during it and after it.
"""

import argparse
import asyncio
import contextlib
import itertools
import multiprocessing
import os
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from benchmarks.abuse import GOOD_ADDRESS, Plan, attack, children_of
from benchmarks.connections import Connections
from benchmarks.report import write
from benchmarks.server_process import DIGIT, PATH, resident_mib, served_model, serving

CLIENTS: Final = 8
SIGMAS: Final = (0.0, 0.4, 0.8, 1.0)
VOTES: Final = (1, 5, 20)
STOPS: Final = ("fixed", "exact")
SEEDS: Final = range(16)
MOST_SECONDS: Final = 900
SETTLING_SECONDS: Final = 30.0


@dataclass
class Compared:
    """What became of the good clients' requests."""

    right: int = 0
    wrong: int = 0
    statuses: Counter[str] = field(default_factory=Counter)


@dataclass
class Watched:
    """Seconds since the start, resident MiB of the server and of its children, and its open descriptors."""

    rows: list[tuple[float, float, float, int]] = field(default_factory=list)

    def between(self, start: float, end: float) -> dict[str, float]:
        """Means from `start` to `end` seconds."""
        rows = np.array([row[1:] for row in self.rows if start <= row[0] < end])
        means = rows.mean(axis=0) if len(rows) else np.full(3, np.nan)
        return dict(zip(("server_mib", "children_mib", "descriptors"), map(float, means.round(1)), strict=True))


def requests() -> Iterator[bytes]:
    """Bodies that differ in everything that an answer depends on; each has its seed."""
    image = b64encode(DIGIT.read_bytes()).decode()
    for sigma, votes, stop, seed in itertools.product(SIGMAS, VOTES, STOPS, SEEDS):
        body = {"inputs": [{"image": image}], "sigma": sigma, "votes": votes, "seed": seed, "stop": {"rule": stop}}
        yield orjson.dumps(body)


async def _ask(connections: Connections, body: bytes) -> tuple[int, Any]:
    status, content = await connections.post(body)
    return status, orjson.loads(content).get("predictions")


async def _keep_asking(url: str, known: dict[bytes, Any], first: int, end: float, compared: Compared) -> None:
    """Ask for everything in turn, again and again, and compare."""
    bodies = list(known)
    with contextlib.closing(Connections(url, PATH, GOOD_ADDRESS)) as connections:
        for number in itertools.count(first):
            if time.perf_counter() >= end:
                return
            body = bodies[number * 7 % len(bodies)]
            try:
                status, predictions = await _ask(connections, body)
            except (OSError, EOFError) as error:
                compared.statuses[type(error).__name__] += 1
                continue
            compared.statuses[str(status)] += 1
            if status == 200:
                compared.right += predictions == known[body]
                compared.wrong += predictions != known[body]


async def _watch(pid: int, watched: Watched, began: float, end: float) -> None:
    while time.perf_counter() < end:
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))  # /proc answers at once
        children = sum(map(resident_mib, children_of(pid)))
        watched.rows.append((time.perf_counter() - began, resident_mib(pid), children, descriptors))
        await asyncio.sleep(1)


async def _soak(url: str, pid: int, plan: Plan, watched: Watched) -> Compared:
    with contextlib.closing(Connections(url, PATH, GOOD_ADDRESS)) as connections:
        known = {body: (await _ask(connections, body))[1] for body in requests()}
    assert all(known.values())
    compared, began = Compared(), time.perf_counter()
    loaded = began + 2 * SETTLING_SECONDS + plan.seconds  # before the abuse, beside it, and after it
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[dict[str, dict[str, int]]] = context.Queue()
    attacker = context.Process(target=attack, args=(url, plan, answers), daemon=True)
    watching = asyncio.create_task(_watch(pid, watched, began, loaded + 5))
    asking = [_keep_asking(url, known, 11 * client, loaded, compared) for client in range(CLIENTS)]
    starting = asyncio.create_task(_start_later(attacker))
    await asyncio.gather(*asking, starting)
    await watching
    with contextlib.suppress(ValueError):
        await asyncio.to_thread(attacker.join, 60)
    return compared


async def _start_later(attacker: Any) -> None:
    await asyncio.sleep(SETTLING_SECONDS)
    attacker.start()


def measure(url: str, pid: int, plan: Plan) -> dict[str, Any]:
    """Soak a server."""
    watched = Watched()
    compared = asyncio.run(_soak(url, pid, plan, watched))
    ends = SETTLING_SECONDS + plan.seconds
    sixth = plan.seconds / 6
    return {
        "plan": asdict(plan),
        "answers": compared.right + compared.wrong,
        "wrong": compared.wrong,
        "statuses": dict(compared.statuses),
        "before the abuse": watched.between(SETTLING_SECONDS / 2, SETTLING_SECONDS),
        "second sixth of the abuse": watched.between(SETTLING_SECONDS + sixth, SETTLING_SECONDS + 2 * sixth),
        "last sixth of the abuse": watched.between(ends - sixth, ends),
        "after the abuse": watched.between(ends + SETTLING_SECONDS / 2, ends + SETTLING_SECONDS),
        "idle again": watched.between(ends + SETTLING_SECONDS + 2, ends + SETTLING_SECONDS + 10),
    }


def table(figures: dict[str, Any]) -> list[str]:
    """The figures as Markdown."""
    rows = ["| when | server MiB | children MiB | descriptors |", "|---|---|---|---|"]
    for when, seen in figures.items():
        if isinstance(seen, dict) and "server_mib" in seen:
            rows.append(f"| {when} | {seen['server_mib']} | {seen['children_mib']} | {seen['descriptors']} |")
    said = ", ".join(f"{status}: {count}" for status, count in figures["statuses"].items())
    return [f"{figures['answers']} answers were compared, {figures['wrong']} of them wrong ({said}).", "", *rows]


def main() -> None:
    """Soak, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--each", type=int, default=300, help="idle, half-header and stalled connections each")
    parser.add_argument("--seconds", type=float, default=600, help=f"of abuse, at most {MOST_SECONDS}")
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.md")
    options = parser.parse_args()
    each = min(options.each, 2000)
    plan = Plan(each, each, each, min(options.seconds, MOST_SECONDS))
    with serving(options.threads, options.model_store) as (url, pid):
        figures, served = measure(url, pid, plan), served_model(url)
    rows = table(figures)
    print(*rows, sep="\n")
    if options.out:
        write(options.out, figures, rows, "Load with abuse beside it", served)


if __name__ == "__main__":
    main()
