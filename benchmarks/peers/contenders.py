"""The servers that are compared: how each is started, asked and understood."""

import json
import os
import socket
import sys
import sysconfig
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from PIL import Image

from benchmarks.peers.asking import ConnectionEndedError, Group, ask
from benchmarks.peers.programs import Program, started
from benchmarks.server_process import DIGIT
from benchmarks.serving_core import MODEL

SERVERS: Final = Path(__file__).resolve().parent / "servers"
REQUIREMENTS: Final = Path(__file__).resolve().parent / "requirements"
START_S: Final = 120
IMAGE: Final = b64encode(DIGIT.read_bytes()).decode()
OURS: Final = "noisevote"
SIGMA: Final = 0.8

Body = Callable[[int], dict[str, Any]]
Histogram = Callable[[Any], list[int]]
Precision = Literal["float32", "int8"]
# The one whose measured accuracy is best at this sigma, and the same in bytes.
VARIANTS: Final[Mapping[Precision, str]] = {"float32": "mul-0.9", "int8": "mul-0.9-int8-op2"}


class Unavailable(Exception):  # noqa: N818  # it is no error that a peer is missing
    """A server cannot be measured; the message says why."""


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
        precision: of the graph that it runs.
    """

    name: str
    environment: str
    command: tuple[str, ...]
    path: str
    body: Body
    histogram: Histogram
    files: Callable[[int], Mapping[str, Any]] = lambda _: {}
    precision: Precision = "float32"


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


def _program(name: str) -> str:
    return str(SERVERS / f"{name}_digits.py")


FLOAT_PEERS: Final = (
    Peer("FastAPI, rows tiled, 2 workers", "fastapi", _uvicorn("tiled", "--workers", "2"), "/predict", _plain, _said),
    Peer("FastAPI, a loop over votes", "fastapi", _uvicorn("loop"), "/predict", _plain, _said),
    Peer("LitServe, 2 workers", "litserve", ("python", _program("litserve"), "{port}"), "/predict", _plain, _said),
    Peer(
        "MLServer, 2 workers", "mlserver", ("mlserver", "start", "{folder}"), "/v2/models/digits/infer", _texts,
        _output, _mlserver_files,
    ),
    Peer(
        "BentoML, 2 workers", "bentoml",
        ("bentoml", "serve", "bentoml_digits:Digits", "--working-dir", str(SERVERS), "--port", "{port}"),
        "/predict", _plain, _said,
    ),
    Peer("Ray Serve, 2 replicas", "ray", ("python", _program("ray"), "{port}"), "/predict", _plain, _said),
    Peer(
        "Triton (pytriton), 2 instances", "triton", ("python", _program("triton"), "{port}"),
        "/v2/models/digits/infer", _pixels, _output,
    ),
)  # fmt: skip
# Those that were best with floats.
BYTE_PEERS: Final = tuple(replace(peer, name=f"{peer.name}, int8", precision="int8") for peer in FLOAT_PEERS[:3])
PEERS: Final = FLOAT_PEERS + BYTE_PEERS


@contextmanager
def launched(peer: Peer, environments: Path, graphs: Mapping[Precision, Path]) -> Iterator[tuple[str, Program]]:
    """Address and program of a peer that starts; `ready` waits until it has.

    Raises:
        Unavailable: it was not installed.
    """
    programs = environments / peer.environment / "bin"
    if not (environments / peer.environment / "installed").exists():
        raise Unavailable(f"{peer.environment} is not installed below {environments.name}")
    port, folder = _free_port(), environments / "run" / peer.name.replace(" ", "-").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in peer.files(port).items():
        (folder / name).write_text(json.dumps(content))
    command = [str(programs / peer.command[0])]
    command += [part.format(port=port, folder=folder) for part in peer.command[1:]]
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(SERVERS),
        # Triton's programs are linked to libpython, which must be the one that the environment was made with.
        "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
        "PEER_GRAPH": str(graphs[peer.precision]),
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    with started(command, environment, folder) as program:
        yield f"http://127.0.0.1:{port}", program


@contextmanager
def launched_ours(lanes: int, store: Path, environments: Path) -> Iterator[tuple[str, Program]]:
    """Address and program of our server that starts with one model, as others do, and times its batches anew."""
    port = _free_port()
    where = ("--port", str(port), "--model-store", str(store.resolve()), "--models", MODEL)
    how = ("--threads", str(lanes), "--timings-file", "off")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NOISEVOTE_")}
    command = [sys.executable, "-m", "noisevote", "serve", *where, *how]
    with started(command, environment, environments / "run" / OURS) as program:
        yield f"http://127.0.0.1:{port}", program


def our_body(votes: int, seed: int, precision: Precision, rule: str = "fixed") -> dict[str, Any]:
    """What our server is asked."""
    return {
        "inputs": [{"image": IMAGE}],
        "sigma": SIGMA,
        "votes": votes,
        "seed": seed,
        "variant": VARIANTS[precision],
        "stop": {"rule": rule},
    }


def _free_port() -> int:
    """Some that nobody uses, with two more after it for what peers open beside, on any address."""
    while True:
        with ExitStack() as stack, suppress(OSError, OverflowError):
            first = stack.enter_context(socket.socket())
            first.bind(("", 0))
            port = int(first.getsockname()[1])
            for more in (1, 2):
                stack.enter_context(socket.socket()).bind(("", port + more))
            return port


def ready(url: str, path: str, body: dict[str, Any], program: Program, began: float) -> None:
    """Ask until it answers; it began to start at `began`, seconds of the monotonic clock.

    Raises:
        Unavailable: it does not in time.
    """
    group, said = Group(1, [json.dumps(body).encode()]), ""
    while time.monotonic() < began + START_S and program.runs:
        try:
            answer = ask(url, path, [group], 0)[0]
        except (OSError, ConnectionEndedError) as error:
            said = f"{type(error).__name__}: {error}"
        else:
            if answer.status == 200:
                return
            said = f"{answer.status}: {answer.content[:200]!r}"
        time.sleep(0.2)
    raise Unavailable(f"it does not answer ({said})" if program.runs else "it ended while it started")
