"""One replica against two, each pinned to a core of its own, and a node killed under load.

    python -m benchmarks.scale_out --out docs/results/scale-out

Starts two Ray nodes on this machine and a single process beside them, whose answers are the ones to get. Needs the
extra `ray`. One replica and two take turns, so that their ratio is that of one machine at one time: for the turns of
one the second node is killed, and for those of two a new one joins. The clients' and Ray's own processor time comes
from the same cores, so requests are large, as those are that are split.
"""

import argparse
import base64
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from benchmarks.ray_cluster import Cluster, cluster
from benchmarks.report import write
from benchmarks.server_process import DIGIT, PATH, served_model, serving
from noisevote.service.cpus import usable_cpus
from noisevote.service.settings import Settings

TITLE = "Replicas on two Ray nodes"
AIM = 1.6


@dataclass(frozen=True)
class Outcome:
    """What became of one request."""

    status: int
    right: bool
    began: float
    seconds: float


@dataclass
class Load:
    """Clients that ask again and again, from `start` to `finish`; each on connections of its own."""

    url: str
    body: dict[str, Any]
    expected: Any
    clients: int
    timeout_s: float
    outcomes: list[Outcome] = field(default_factory=list)

    def start(self) -> None:
        """Start the clients."""
        self._enough = threading.Event()
        self._began = time.perf_counter()
        self._threads = [threading.Thread(target=self._client) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()

    def finish(self) -> float:
        """Let each client's last request end; returns votes answered per second until then."""
        self._enough.set()
        for thread in self._threads:
            thread.join()
        right = sum(outcome.right for outcome in self.outcomes)
        return right * float(self.body["votes"]) / (time.perf_counter() - self._began)

    def _client(self) -> None:
        with httpx.Client(timeout=self.timeout_s) as client:
            while not self._enough.is_set():
                self.outcomes.append(self._ask(client))

    def _ask(self, client: httpx.Client) -> Outcome:
        began = time.perf_counter()
        try:
            response = client.post(f"{self.url}{PATH}", json=self.body)
        except httpx.HTTPError:  # no answer within the timeout, or none at all
            return Outcome(0, False, began, time.perf_counter() - began)
        right = response.status_code == 200 and response.json()["predictions"] == self.expected
        return Outcome(response.status_code, right, began, time.perf_counter() - began)


def main() -> None:
    """Compare histograms, then throughput in turns, then kill a node."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_out", description=__doc__)
    parser.add_argument("--votes", type=int, default=4000, help="of a request")
    parser.add_argument("--part-rows", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--turn-seconds", type=float, default=20.0)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--kill-seconds", type=float, default=20.0, help="of load around each kill")
    parser.add_argument("--timeout", type=float, default=60.0, help="of a request, in seconds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nv", ignore_cleanup_errors=True) as folder:
        figures, model = _measure(Path(folder), options)
    table = _table(figures, options)
    print(*table, sep="\n")
    if options.out:
        write(options.out, figures, table, TITLE, model)


def _measure(folder: Path, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Figures, and the model that they are of."""
    image = base64.b64encode(DIGIT.read_bytes()).decode()
    body = {"inputs": [{"image": image}], "sigma": 0.8, "votes": options.votes, "seed": 7}
    with serving(usable_cpus(), Settings.model_fields["model_store"].default) as (url, _):
        model = served_model(url)
        expected = httpx.post(f"{url}{PATH}", json=body, timeout=600).json()["predictions"]
        bodies = [body | changed for changed in ({"seed": 2**64 - 1}, {"votes": 20}, {"stop": {"rule": "exact"}})]
        others = [(each, httpx.post(f"{url}{PATH}", json=each, timeout=600).json()["predictions"]) for each in bodies]
    with cluster(folder, nodes=2) as nodes:
        given = {"min_replicas": 2, "max_replicas": 2, "pinned": True, "part_rows": options.part_rows}
        nodes.deploy(**given, timeout_s=options.timeout)
        nodes.wait_for_replicas(2)
        same = [_predictions(nodes, each) == answer for each, answer in [(body, expected), *others]]
        turns = _turns(nodes, body, expected, options)
        figures = {
            "requests_compared_with_one_process": len(same),
            "of_these_the_same": sum(same),
            **turns,
            **_kills(nodes, body, expected, options),
        }
    return figures, model


def _predictions(nodes: Cluster, body: dict[str, Any]) -> Any:
    return httpx.post(f"{nodes.url}{PATH}", json=body, timeout=600).json().get("predictions")


def _turns(nodes: Cluster, body: dict[str, Any], expected: Any, options: argparse.Namespace) -> dict[str, Any]:
    one, two = [], []
    for _ in range(options.turns):
        two.append(_turn(nodes, body, expected, options))
        nodes.nodes.pop().kill()
        nodes.wait_for_replicas(1)
        one.append(_turn(nodes, body, expected, options))
        nodes.add_node()
        nodes.wait_for_replicas(2)
    return {
        "votes_per_second_one_replica": one,
        "votes_per_second_two_replicas": two,
        "two_over_one": statistics.median(b / a for a, b in zip(one, two, strict=True)),
    }


def _turn(nodes: Cluster, body: dict[str, Any], expected: Any, options: argparse.Namespace) -> float:
    load = Load(nodes.url, body, expected, options.clients, options.timeout)
    load.start()
    time.sleep(options.turn_seconds)
    return load.finish()


def _kills(nodes: Cluster, body: dict[str, Any], expected: Any, options: argparse.Namespace) -> dict[str, Any]:
    outcomes: list[Outcome] = []
    struck = 0
    for _ in range(options.kills):
        load = Load(nodes.url, body, expected, options.clients, options.timeout)
        load.start()
        time.sleep(options.kill_seconds / 2)
        killed = time.perf_counter()
        nodes.nodes.pop().kill()
        time.sleep(options.kill_seconds / 2)
        load.finish()
        outcomes += load.outcomes
        struck += sum(outcome.began < killed < outcome.began + outcome.seconds for outcome in load.outcomes)
        nodes.add_node()
        nodes.wait_for_replicas(2)
    return {
        "nodes_killed": options.kills,
        "requests_around": len(outcomes),
        "under_way_at_a_kill": struck,
        "answered": sum(outcome.status == 200 for outcome in outcomes),
        "answered_right": sum(outcome.right for outcome in outcomes),
        "answered_late": sum(outcome.seconds > options.timeout for outcome in outcomes),
        "longest_seconds": max(outcome.seconds for outcome in outcomes),
        "parts_asked_again": len(nodes.log("asking again for votes")),
    }


def _table(figures: dict[str, Any], options: argparse.Namespace) -> list[str]:
    lines = [
        f"{options.clients} clients, requests of {options.votes} votes in parts of {options.part_rows}, "
        f"timeout {options.timeout:g} s; each replica pinned to a core, one thread, on Ray {version('ray')}. "
        f"Aim: two ÷ one ≥ {AIM}.",
        "",
        "| figure | value |",
        "|---|---|",
    ]
    for name, value in figures.items():
        shown = (
            f"{statistics.median(value):.0f} (median of {len(value)})" if isinstance(value, list) else f"{value:.4g}"
        )
        lines.append(f"| {name.replace('_', ' ')} | {shown} |")
    return lines


if __name__ == "__main__":
    main()
