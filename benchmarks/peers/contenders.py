"""The servers that are compared: how each is started, asked and understood."""

import asyncio
import json
import os
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks.connections import Connections
from benchmarks.server_process import DIGIT

SERVERS: Final = Path(__file__).resolve().parent / "servers"
REQUIREMENTS: Final = Path(__file__).resolve().parent / "requirements"
START_S: Final = 25
IMAGE: Final = b64encode(DIGIT.read_bytes()).decode()

Body = Callable[[int], dict[str, Any]]
Histogram = Callable[[Any], list[int]]


@dataclass(frozen=True)
class Peer:
    """A server in an environment of its own.

    Attributes:
        name: for people.
        environment: folder of its environment, and name of its requirements.
        command: what follows the environment's folder of programs; `{port}` and `{folder}` are filled in.
        path: where it is asked.
        body: what it is asked, for so many votes.
        histogram: votes per class in its answer.
        files: what is written into `{folder}` first.
    """

    name: str
    environment: str
    command: tuple[str, ...]
    path: str
    body: Body
    histogram: Histogram
    files: Callable[[int], Mapping[str, Any]] = lambda _: {}


def _plain(votes: int) -> dict[str, Any]:
    return {"image": IMAGE, "votes": votes}


def _said(answer: Any) -> list[int]:
    return list(answer["histogram"])


def _texts(votes: int) -> dict[str, Any]:
    """Open Inference Protocol v2."""
    return {
        "inputs": [
            {"name": "image", "shape": [1], "datatype": "BYTES", "data": [IMAGE]},
            {"name": "votes", "shape": [1], "datatype": "INT64", "data": [votes]},
        ]
    }


def _pixels(votes: int) -> dict[str, Any]:
    """The same for a server that reads no pictures."""
    with Image.open(DIGIT) as picture:
        pixels = np.asarray(picture).ravel().tolist()
    return {
        "inputs": [
            {"name": "image", "shape": [1, 1, 28, 28], "datatype": "UINT8", "data": pixels},
            {"name": "votes", "shape": [1, 1], "datatype": "INT64", "data": [votes]},
        ]
    }


def _output(answer: Any) -> list[int]:
    return list(answer["outputs"][0]["data"])


def _mlserver_files(port: int) -> dict[str, Any]:
    ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    return {
        "settings.json": {**ports, "host": "127.0.0.1", "parallel_workers": 2, "debug": False},
        "model-settings.json": {"name": "digits", "implementation": "mlserver_digits.Digits"},
    }


def _uvicorn(application: str, *options: str) -> tuple[str, ...]:
    return ("uvicorn", f"fastapi_digits:{application}", "--port", "{port}", "--log-level", "warning", *options)


PEERS: Final = (
    Peer(
        "FastAPI, rows tiled, 2 workers", "fastapi", _uvicorn("tiled", "--workers", "2"), "/predict", _plain, _said,
    ),
    Peer("FastAPI, a loop over votes", "fastapi", _uvicorn("loop"), "/predict", _plain, _said),
    Peer("LitServe, 2 workers", "litserve", ("python", "litserve_digits.py", "{port}"), "/predict", _plain, _said),
    Peer(
        "MLServer, 2 workers", "mlserver", ("mlserver", "start", "{folder}"), "/v2/models/digits/infer", _texts,
        _output, _mlserver_files,
    ),
    Peer(
        "BentoML, 2 workers", "bentoml", ("bentoml", "serve", "bentoml_digits:Digits", "--port", "{port}"), "/predict",
        _plain, _said,
    ),
    Peer(
        "Triton (pytriton), 2 instances", "triton", ("python", "triton_digits.py", "{port}"),
        "/v2/models/digits/infer", _pixels, _output,
    ),
)  # fmt: skip


class Unavailable(Exception):  # noqa: N818  # it is no error that a peer is missing
    """A peer cannot be measured; the message says why."""


@contextmanager
def launched(peer: Peer, environments: Path, graph: Path, folder: Path) -> Iterator[str]:
    """The address of a peer that starts; `ready` waits until it has.

    Raises:
        Unavailable: it was not installed.
    """
    programs = environments / peer.environment / "bin"
    if not (programs / peer.command[0]).exists():
        raise Unavailable(f"{peer.command[0]} is not installed below {environments / peer.environment}")
    port = _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in peer.files(port).items():
        (folder / name).write_text(json.dumps(content))
    command = [str(programs / peer.command[0])]
    command += [part.format(port=port, folder=folder) for part in peer.command[1:]]
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {
        "PATH": path, "PYTHONPATH": str(SERVERS), "PEER_GRAPH": str(graph), "BENTOML_DO_NOT_TRACK": "True",
    }  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=SERVERS, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        _end(process)


def _free_port() -> int:
    """Some that nobody uses, with two more after it for what peers open beside."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
        if port < 65_000:
            return port


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all of its workers, which are its process group."""
    for number in (15, 9):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            continue


async def ready(peer: Peer, connections: Connections, began: float) -> None:
    """Ask until it answers; it began to start at `began`, seconds of the monotonic clock.

    Raises:
        Unavailable: it does not in time.
    """
    end, body = began + START_S, json.dumps(peer.body(1)).encode()
    said = ""
    while time.monotonic() < end:
        try:
            async with asyncio.timeout(max(1.0, end - time.monotonic())):
                status, content = await connections.post(body)
        except (OSError, EOFError, RuntimeError) as error:
            said = f"{type(error).__name__}: {error}"
        else:
            if status == 200:
                return
            said = f"{status}: {content[:200]!r}"
        await asyncio.sleep(0.2)
    raise Unavailable(f"it does not answer ({said})")
