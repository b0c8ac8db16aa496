"""Ray nodes on this machine, as processes that are stopped by their ids: for `scale_out` and for the tests.

Everything listens on 127.0.0.1 alone, and nothing is reported to anyone.
"""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

ROOT: Final = Path(__file__).resolve().parent.parent
LOOPBACK: Final = "127.0.0.1"
PATIENCE_S: Final = 180.0
STOP_S: Final = 5.0  # Ray itself would wait up to half a minute for what a node runs
OBJECT_STORE_BYTES: Final = 100 * 2**20
# `ray start` replaces 127.0.0.1 by an address that other machines reach, and then listens on all interfaces. A node
# of this process shall have the address that it was given.
START: Final = """
from ray._private import ray_constants, services
ray_constants.ENABLE_RAY_CLUSTER = True
services.get_node_ip_address = lambda address=None: "127.0.0.1"
from ray.scripts.scripts import main
main()
"""
ALIVE: Final = "sum(node['Alive'] for node in ray.nodes())"
RUNNING: Final = "serve.status().applications['noisevote'].deployments['Voter'].replica_states.get('RUNNING', 0)"
ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # whatever token is in the home folder: all is on loopback
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # drivers and workers too take 127.0.0.1 for their address
    "PYTHONPATH": str(ROOT),
}


class ClusterError(Exception):
    """A command failed, or what was waited for did not come; the message has what was printed."""


@dataclass
class Node:
    """A Ray node: the process of `ray start --block`, and whatever it has started."""

    process: subprocess.Popen[bytes]

    def processes(self) -> list[int]:
        """Ids of all its processes, its own first."""
        return [self.process.pid, *descendants(self.process.pid)]

    def freeze(self) -> None:
        """Let all of it stand still, so that what it has under way stays so until it is killed."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)

    def kill(self) -> None:
        """`kill -9` to all of it, as if its machine had lost its power."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Let it end, and kill what does not."""
        processes = self.processes()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()


class Cluster:
    """A head node and others. `folder` takes what Ray writes, and has a short name, as sockets lie in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.nodes: list[Node] = []
        self.http_port = free_port()
        self._address = f"{LOOPBACK}:{free_port()}"
        self._environment = environment
        self._numbers = itertools.count()
        self._log = folder / "none.log"

    @property
    def url(self) -> str:
        """Where the service answers."""
        return f"http://{LOOPBACK}:{self.http_port}"

    def start(self) -> None:
        """The head node, with a processor for one replica, and Ray Serve."""
        head = ["--head", "--port", self._address.split(":")[1], "--include-dashboard=false"]
        self._start_node(*head, "--temp-dir", str(self.folder), "--ray-client-server-port", str(free_port()))
        http = ["--http-host", LOOPBACK, "--http-port", str(self.http_port), "--proxy-location", "HeadOnly"]
        self._wait(lambda: self._asked(ALIVE) == 1, "the head node")
        self._serve("start", *http)

    def add_node(self) -> Node:
        """Another node, with a processor for one replica."""
        node = self._start_node("--address", self._address)
        self._wait(lambda: self._asked(ALIVE) >= len(self.nodes), "another node")
        return node

    def deploy(self, **options: object) -> None:
        """Deploy the service with these options of `ScaleOut`; returns once requests are answered."""
        given = [f"{name}={value}" for name, value in options.items()]
        self._serve("run", "--non-blocking", "--name", "noisevote", "deploy.ray_serve:app", *given)
        self._wait(self._ready, "the service")

    def wait_for_replicas(self, count: int) -> None:
        """Return once exactly so many are running; Ray takes a while to know that a killed node is lost."""
        self._wait(lambda: self._asked(RUNNING) == count, f"replica {count}")

    def stop(self) -> None:
        """Stop all nodes, the head last."""
        for node in reversed(self.nodes):
            node.stop()

    def log(self, wanted: str) -> list[str]:
        """Lines with these words in what nodes and replicas wrote."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and path.suffix in {".log", ".err", ".out"})
        return [line for file in files for line in file.read_text(errors="replace").splitlines() if wanted in line]

    def _start_node(self, *arguments: str) -> Node:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", START, "start", "--block", "--disable-usage-stats", "--num-cpus", "1"]
        command += ["--node-ip-address", LOOPBACK, "--object-store-memory", str(OBJECT_STORE_BYTES), *arguments]
        self._log = self.folder / f"node-{next(self._numbers)}.log"
        with self._log.open("wb") as log:
            process = subprocess.Popen(command, env=self._variables(), stdout=log, stderr=log, start_new_session=True)
        self.nodes.append(Node(process))
        return self.nodes[-1]

    def _serve(self, *arguments: str) -> None:
        done = self._run("-m", "ray.serve.scripts", *arguments[:1], "--address", self._address, *arguments[1:])
        if done.returncode:
            raise ClusterError(f"serve {' '.join(arguments)}: {done.stdout[-4000:]}")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env=self._variables() | {"RAY_ADDRESS": self._address},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def _variables(self) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if not k.startswith("NOISEVOTE_")} | ENVIRONMENT | self._environment

    def _asked(self, expression: str) -> int:
        """A number that Ray knows; 0 where it does not answer."""
        code = f"import ray; from ray import serve; ray.init(log_to_driver=False); print({expression})"
        done = self._run("-c", code)
        last = done.stdout.split()[-1:]
        return int(last[0]) if done.returncode == 0 and last and last[0].isdigit() else 0

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except httpx.HTTPError:
            return False

    def _wait(self, reached: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not reached():
            if time.monotonic() > end or self.nodes[-1].process.poll() is not None:
                raise ClusterError(f"{what} did not come up: {self._log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.2)


@contextlib.contextmanager
def cluster(folder: Path, nodes: int, environment: dict[str, str] | None = None) -> Iterator[Cluster]:
    """So many nodes with Ray Serve; stopped in the end. The environment has settings of the service."""
    made = Cluster(folder, environment or {})
    try:
        made.start()
        for _ in range(nodes - 1):
            made.add_node()
        yield made
    finally:
        made.stop()


def descendants(process: int) -> list[int]:
    """Ids of the processes that a process has started, and of those that they have."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                # After the name, which may hold anything, in parentheses: state and parent.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    return _below(process, children)


def _below(process: int, children: dict[int, list[int]]) -> list[int]:
    return [each for child in children.get(process, []) for each in (child, *_below(child, children))]


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        return int(found.getsockname()[1])
