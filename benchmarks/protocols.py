"""Binary tensors by /v2 beside base64 by /v1: requests a second at few and many votes, and how fast tensors are read.

    python -m benchmarks.protocols --out docs/results/protocols

Both send the same float32 inputs to the same server, in turns. How fast a large tensor is read is measured by requests
whose last value lies outside of the model's range: they are received, decoded and checked whole, and refused before
any vote, so that it is not the network that is timed. With `--perf-analyzer`, Triton's perf_analyzer measures too: what
the server says of its own time beside the latency that the client sees.
"""

import argparse
import asyncio
import json
import re
import subprocess
import tempfile
from base64 import b64encode
from pathlib import Path

import numpy as np
import orjson
import uvloop
from numpy.typing import NDArray

from benchmarks.closed_loop import Client, TurnsTaken, in_turns
from benchmarks.connections import Connections
from benchmarks.report import write
from benchmarks.server_process import PATH, served_model, serving
from benchmarks.serving_core import MODEL
from noisevote.service.cpus import usable_cpus

TITLE = "Binary tensors by /v2 beside base64 by /v1"
V1, V2 = "/v1 base64", "/v2 binary"
V2_PATH = f"/v2/models/{MODEL}/infer"
HEAD = "| inputs | votes | /v1 base64, requests/s | /v2 binary, requests/s | /v2 ÷ /v1 |"
RULE = "|---|---|---|---|---|"
READ_HEAD = "| inputs | float32, MB | /v1 base64, MB/s | /v2 binary, MB/s | /v2 ÷ /v1 |"
PERF_HEAD = "| votes | clients | perf_analyzer's latency, ms | the server's breakdown, ms | breakdown ÷ latency |"
MB = 1e6
LATENCY = re.compile(r"Avg latency: (\d+) usec")
BREAKDOWN = re.compile(r"Avg request latency: (\d+) usec")


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.protocols", description=__doc__)
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--votes", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--inputs", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--large", type=int, nargs="+", default=[64, 1024], help="inputs of tensors that are only read")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--lanes", type=int, default=usable_cpus())
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turn-seconds", type=float, default=1.5)
    parser.add_argument("--perf-analyzer", help="the command, where it is installed")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with (
        serving(options.lanes, options.model_store) as (url, _),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as on,
    ):
        served = served_model(url)
        figures = {"votes": on.run(_voted(url, options)), "read": on.run(_read(url, options))}
        if options.perf_analyzer:
            figures["perf_analyzer"] = _perf_analyzed(url, options)
    table = [HEAD, RULE, *map(_row, figures["votes"]), "", READ_HEAD, RULE, *map(_row, figures["read"])]
    if options.perf_analyzer:
        table += ["", PERF_HEAD, RULE, *map(_row, figures["perf_analyzer"])]
    print(*table, sep="\n")
    if options.out:
        about = f"{options.clients} clients, sigma 0.8, {options.lanes} lanes, {options.rounds} rounds."
        write(options.out, figures, [about, "", *table], TITLE, served)


async def _voted(url: str, options: argparse.Namespace) -> list[dict[str, float]]:
    rows = []
    for count in options.inputs:
        inputs = np.random.default_rng(0).random((count, 1, 28, 28), dtype=np.float32)
        for votes in options.votes:
            found = await _turns(url, inputs, votes, 200, options)
            rates = {name: _requests_per_second(turns) for name, turns in found.items()}
            rows.append({"inputs": count, "votes": votes, **_compared(rates, found)})
    return rows


async def _read(url: str, options: argparse.Namespace) -> list[dict[str, float]]:
    rows = []
    for count in options.large:
        inputs = np.random.default_rng(0).random((count, 1, 28, 28), dtype=np.float32)
        inputs[-1, -1, -1, -1] = 2
        found = await _turns(url, inputs, 1, 422, options)
        rates = {name: inputs.nbytes / MB * _requests_per_second(turns) for name, turns in found.items()}
        rows.append({"inputs": count, "megabytes": inputs.nbytes / MB, **_compared(rates, found)})
    return rows


async def _turns(
    url: str, inputs: NDArray[np.float32], votes: int, status: int, options: argparse.Namespace
) -> dict[str, TurnsTaken]:
    head, body = as_v2(inputs, votes)
    by_v1 = Connections(url, PATH)
    by_v2 = Connections(url, V2_PATH, header=f"inference-header-content-length: {head}")
    asked: dict[str, list[Client]] = {
        V1: [_client(by_v1, as_v1(inputs, votes), status)] * options.clients,
        V2: [_client(by_v2, body, status)] * options.clients,
    }
    found = await in_turns(asked, options.rounds, options.turn_seconds)
    by_v1.close()
    by_v2.close()
    return found


def _perf_analyzed(url: str, options: argparse.Namespace) -> list[dict[str, float]]:
    rows = []
    for votes in options.votes:
        for clients in (1, options.clients):
            data = {"input": {"content": [0.5] * 784, "shape": [1, 28, 28]}, "sigma": [0.8], "votes": [votes]}
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                file.write(json.dumps({"data": [data]}))
                file.flush()
                command = [
                    options.perf_analyzer,
                    "-m",
                    MODEL,
                    "-u",
                    url.removeprefix("http://"),
                    "--input-data",
                    file.name,
                ]
                command += ["--concurrency-range", str(clients), "--request-count", "400"]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            latency, breakdown = (
                int(found[1]) / 1e3 for found in (LATENCY.search(said), BREAKDOWN.search(said)) if found
            )
            row = {"votes": votes, "clients": clients, "latency_ms": latency, "breakdown_ms": breakdown}
            rows.append(row | {"ratio": breakdown / latency})
    return rows


def as_v1(inputs: NDArray[np.float32], votes: int) -> bytes:
    """The request with each input in base64."""
    items = [{"b64": b64encode(each.tobytes()).decode(), "dtype": "float32"} for each in inputs]
    return orjson.dumps({"inputs": items, "sigma": 0.8, "votes": votes})


def as_v2(inputs: NDArray[np.float32], votes: int) -> tuple[int, bytes]:
    """The request with one binary tensor, and the length of its JSON object."""
    raw = inputs.tobytes()
    tensor = {"name": "input", "shape": inputs.shape, "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    parameters = {"sigma": 0.8, "votes": votes, "binary_data_output": True}
    head = orjson.dumps({"inputs": [tensor], "parameters": parameters})
    return len(head), head + raw


def _client(connections: Connections, body: bytes, expected: int) -> Client:
    async def ask() -> int:
        status, content = await connections.post(body)
        if status != expected:
            raise RuntimeError(f"{connections.path} answers {status}: {content[:500]!r}")
        return 1

    return ask


def _requests_per_second(turns: TurnsTaken) -> float:
    """Each counts as one vote."""
    return turns.votes_per_second()


def _compared(rates: dict[str, float], found: dict[str, TurnsTaken]) -> dict[str, float]:
    return {"v1": rates[V1], "v2": rates[V2], "ratio": found[V2].ratio(found[V1])}


def _row(row: dict[str, float]) -> str:
    first, second, v1, v2, ratio = row.values()
    return f"| {first:g} | {second:.3g} | {v1:.3g} | {v2:.3g} | {ratio:.2f} |"


if __name__ == "__main__":
    main()
