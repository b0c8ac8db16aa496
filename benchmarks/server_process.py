"""The service as a process of its own, and clients of it."""

import json
import os
import re
import resource
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.closed_loop import Client
from benchmarks.connections import Connections
from benchmarks.serving_core import MODEL
from noisevote.loadtest.target import Target

PATH = f"/v1/models/{MODEL}/predict"
DIGIT = Path(__file__).resolve().parent.parent / "examples" / "digit-7.png"


@dataclass(frozen=True)
class Started:
    """A server that is ready: its address, its process, and how long it took from the start of the process."""

    url: str
    pid: int
    seconds: float


@contextmanager
def started(flags: Sequence[str]) -> Iterator[Started]:
    """A server with these flags on a free port, once it is ready; it is ended at the end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NOISEVOTE_")}
    command = [sys.executable, "-m", "noisevote", "serve", "--port", "0", *flags]
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            if found is None:
                raise RuntimeError(f"the server did not start: {line!r}, status {process.wait()}")
            yield Started(found.group(), process.pid, time.perf_counter() - began)
        finally:
            process.terminate()


@contextmanager
def serving(lanes: int, store: Path) -> Iterator[tuple[str, int]]:
    """Address and process id of a server of so many lanes, once it serves; it is ended at the end."""
    with started(("--threads", str(lanes), "--model-store", str(store))) as server:
        yield server.url, server.pid


def resident_mib(pid: int) -> float:
    """Resident MiB of a process; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    except (OSError, IndexError):
        return 0.0


def served_model(url: str) -> str:
    """Name and version of the measured model that a server serves, for records."""
    described = Target(url, MODEL).describe()
    return f"{described.name} {described.version}"


def client(connections: Connections, sigma: float, votes: int) -> Client:
    """Asks for votes on the example's digit, as a PNG in JSON; the server draws the seeds."""
    image = b64encode(DIGIT.read_bytes()).decode()
    body = json.dumps({"inputs": [{"image": image}], "sigma": sigma, "votes": votes}).encode()

    async def ask() -> int:
        status, content = await connections.post(body)
        if status != 200:
            raise RuntimeError(f"{PATH} answers {status}: {content.decode()}")
        return sum(prediction["votes_used"] for prediction in orjson.loads(content)["predictions"])

    return ask
