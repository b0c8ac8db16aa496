"""A running server that is offered several times what it can do: what it answers, how fast it refuses, what it holds.

    python -m benchmarks.overload --url http://127.0.0.1:8000 --out docs/results/overload

Closed loop: some clients ask again and again, which gives the peak of votes per second. Open loop: requests
arrive at random times (Poisson) at `--factor` times the peak rate, whatever becomes of earlier ones, and every
latency counts from the time a request was due. After a long overload both take short turns, so that the ratio of
their throughputs is that of one machine at one time.
"""

import argparse
import asyncio
import base64
import json
import re
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from benchmarks.connections import Connections
from benchmarks.report import write
from benchmarks.server_process import PATH, served_model
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load

TITLE = "A server offered more than it can do"
SIGMA = 1.0
SAMPLE_S = 5.0  # how often memory is read
# Parsing all of /metrics takes 0.1 s, in which this program sends and reads nothing.
MEMORY = re.compile(r"^process_resident_memory_bytes (\S+)", re.MULTILINE)
SLACK_MS = 50.0  # beyond its deadline an answer still counts as kept: the way to the client and back


@dataclass
class Outcome:
    """What became of requests: latencies in seconds by status, votes answered, memory of the server in bytes."""

    latencies: dict[int, list[float]] = field(default_factory=dict)
    votes: int = 0
    complete: int = 0
    late: int = 0
    most_late_s: float = 0.0
    memory: list[float] = field(default_factory=list)
    seconds: float = 0.0
    own_seconds: float = 0.0  # processor time of this program, which runs on the same machine as the server

    @property
    def own_processors(self) -> float:
        """That the measuring itself keeps busy."""
        return self.own_seconds / self.seconds

    @property
    def votes_per_second(self) -> float:
        """In answers."""
        return self.votes / self.seconds

    def percentile(self, status: int, q: float) -> float:
        """Milliseconds."""
        return 1e3 * float(np.percentile(self.latencies.get(status, [0.0]), q))


def main() -> None:
    """Measure a long overload, then peak and overload in turns."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--votes", type=int, default=100)
    parser.add_argument("--deadline-ms", type=float, default=1000.0)
    parser.add_argument("--factor", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--turns", type=int, default=6, help="of peak and overload")
    parser.add_argument("--turn-seconds", type=float, default=8.0)
    parser.add_argument("--clients", type=int, default=8, help="of the closed loop")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    figures = asyncio.run(_measure(options))
    table = _table(figures, options)
    print(*table, sep="\n")
    if options.out:
        write(options.out, figures, table, TITLE, served_model(options.url))


async def _measure(options: argparse.Namespace) -> dict[str, float | dict[str, int]]:
    image = load("mnist", DataSource.from_environment()).test.inputs[0].astype(np.uint8, copy=False)
    raw = {"b64": base64.b64encode(image.tobytes()).decode(), "dtype": "uint8"}
    plain = {"inputs": [raw], "sigma": SIGMA, "votes": options.votes}
    connections = Connections(options.url, PATH)
    patient, hasty = (json.dumps(body).encode() for body in (plain, plain | {"deadline_ms": options.deadline_ms}))
    before = await _closed_loop(connections, patient, options)
    rate = options.factor * len(before.latencies[200]) / before.seconds
    overload = await _open_loop(connections, hasty, rate, options.seconds, options)
    peaks, overloads = [], []
    for _ in range(options.turns):
        peaks.append(await _closed_loop(connections, patient, options))
        overloads.append(await _open_loop(connections, hasty, rate, options.turn_seconds, options))
    connections.close()
    return _figures(overload, rate, peaks, overloads)


async def _closed_loop(connections: Connections, body: bytes, options: argparse.Namespace) -> Outcome:
    outcome = Outcome()
    began, own_began = time.perf_counter(), time.process_time()

    async def client() -> None:
        while time.perf_counter() - began < options.turn_seconds:
            await _ask(connections, body, outcome, time.perf_counter(), options)

    await asyncio.gather(*(client() for _ in range(options.clients)))
    outcome.seconds, outcome.own_seconds = time.perf_counter() - began, time.process_time() - own_began
    return outcome


async def _open_loop(
    connections: Connections, body: bytes, rate: float, seconds: float, options: argparse.Namespace
) -> Outcome:
    outcome, random = Outcome(), np.random.default_rng(1)
    watching = asyncio.create_task(_watch_memory(options.url, outcome))
    began = due = time.perf_counter()
    own_began = time.process_time()
    asking = set()
    while due - began < seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(_ask(connections, body, outcome, due, options))
        asking.add(task)
        task.add_done_callback(asking.discard)
        due += random.exponential(1 / rate)
    await asyncio.gather(*asking)
    outcome.seconds, outcome.own_seconds = time.perf_counter() - began, time.process_time() - own_began
    watching.cancel()
    return outcome


async def _ask(
    connections: Connections, body: bytes, outcome: Outcome, due: float, options: argparse.Namespace
) -> None:
    status, content = await connections.post(body)
    latency = time.perf_counter() - due
    outcome.latencies.setdefault(status, []).append(latency)
    if status == 200:
        (prediction,) = json.loads(content)["predictions"]
        outcome.votes += prediction["votes_used"]
        outcome.complete += prediction["complete"]
        outcome.late += latency > (options.deadline_ms + SLACK_MS) / 1e3
        outcome.most_late_s = max(outcome.most_late_s, latency)


async def _watch_memory(url: str, outcome: Outcome) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        while True:
            found = MEMORY.search((await client.get("/metrics")).text)
            assert found is not None
            outcome.memory.append(float(found[1]))
            await asyncio.sleep(SAMPLE_S)


def _figures(
    overload: Outcome, rate: float, peaks: list[Outcome], overloads: list[Outcome]
) -> dict[str, float | dict[str, int]]:
    third = len(overload.memory) // 3
    answered = len(overload.latencies.get(200, []))
    return {
        "offered_requests_per_second": rate,
        "statuses": {str(status): len(found) for status, found in sorted(overload.latencies.items())},
        "answered_complete_share": overload.complete / max(1, answered),
        "answered_late": overload.late,
        "answered_p50_ms": overload.percentile(200, 50),
        "answered_p99_ms": overload.percentile(200, 99),
        "answered_longest_ms": 1e3 * overload.most_late_s,
        "refused_p50_ms": overload.percentile(429, 50),
        "refused_p99_ms": overload.percentile(429, 99),
        "memory_first_third_mib": float(np.mean(overload.memory[:third])) / 2**20,
        "memory_last_third_mib": float(np.mean(overload.memory[-third:])) / 2**20,
        "memory_most_mib": max(overload.memory) / 2**20,
        "peak_votes_per_second_in_turns": statistics.median(turn.votes_per_second for turn in peaks),
        "overload_votes_per_second_in_turns": statistics.median(turn.votes_per_second for turn in overloads),
        "overload_share_of_peak": statistics.median(
            overload.votes_per_second / peak.votes_per_second for overload, peak in zip(overloads, peaks, strict=True)
        ),
        "processors_busy_measuring_the_peak": statistics.median(turn.own_processors for turn in peaks),
        "processors_busy_measuring_the_overload": statistics.median(turn.own_processors for turn in overloads),
    }


def _table(figures: dict[str, float | dict[str, int]], options: argparse.Namespace) -> list[str]:
    lines = [
        f"{options.seconds:.0f} s at {options.factor:g} times capacity, requests of {options.votes} votes, "
        f"deadline {options.deadline_ms:g} ms (kept: within {SLACK_MS:g} ms more at the client):",
        "",
        "| figure | value |",
        "|---|---|",
    ]
    for name, value in figures.items():
        shown = ", ".join(f"{k}: {n}" for k, n in value.items()) if isinstance(value, dict) else f"{value:.4g}"
        lines.append(f"| {name.replace('_', ' ')} | {shown} |")
    return lines


if __name__ == "__main__":
    main()
