"""What starting takes: imports, until requests are answered, the first answer, and memory.

    python -m benchmarks.starts --out docs/results/starts

Each round starts a server of one model, of all models, and of all models lazily, each twice: the first start finds
nothing kept, the second one what the first has kept in its `timings_file`. Processor time is of the server and of what
it started, so it tells more than the clock where a machine has other work.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from benchmarks.report import write
from benchmarks.server_process import resident_mib, started
from noisevote.model_store.manifest import Manifest
from noisevote.model_store.store import ModelStore

STORE: Final = Path(__file__).resolve().parent.parent / "model_store" / "models"
MODEL: Final = "mnist-cnn"
STARTS: Final = {"one model": ("--models", MODEL), "all models": (), "all models, lazily": ("--lazy",)}
TIMEOUT_S: Final = 300.0
IMPORTING: Final = """
import resource
from noisevote.service.importing import leanly
with leanly():
    import noisevote.service.__main__
used = resource.getrusage(resource.RUSAGE_SELF)
pages = int(open("/proc/self/statm").read().split()[1])
print(used.ru_utime + used.ru_stime, pages * resource.getpagesize() / 2**20)
"""


@dataclass(frozen=True)
class Imports:
    """A process that imports the server: seconds from start to end, of processor time, and resident MiB."""

    seconds: float
    processor_s: float
    mib: float


@dataclass(frozen=True)
class Start:
    """A server's start.

    Seconds from the start of its process until it says that it is ready, of processor time until then, and of the first
    answer; resident MiB when it is ready, and after that answer.
    """

    ready_s: float
    processor_s: float
    ready_mib: float
    answer_s: float
    answered_mib: float


def imports() -> Imports:
    """Import the server once, in a process of its own."""
    began = time.perf_counter()
    ran = subprocess.run([sys.executable, "-c", IMPORTING], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    return Imports(seconds, *map(float, ran.stdout.split()))


def start(flags: Sequence[str], kept: Path) -> Start:
    """Start a server once, which keeps what it finds out in a file, and ask it for a vote."""
    with serving(flags, kept) as server:
        processor_s, ready_mib = processor_seconds(server.pid), resident_mib(server.pid)
        with httpx.Client(timeout=TIMEOUT_S) as client:
            answer_s = seconds_of(server.url, client, ModelStore(STORE).manifest(MODEL))
        return Start(server.seconds, processor_s, ready_mib, answer_s, resident_mib(server.pid))


def serving(flags: Sequence[str], kept: Path) -> Any:
    """A server on two threads."""
    return started(("--threads", "2", "--model-store", str(STORE), "--timings-file", str(kept), *flags))


def processor_seconds(pid: int) -> float:
    """What a process and its ended children have computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def manifests() -> list[Manifest]:
    """Of the newest versions of the store."""
    store = ModelStore(STORE)
    return [store.manifest(name) for name in store.names()]


def seconds_of(url: str, client: httpx.Client, manifest: Manifest, variant: str = "auto", votes: int = 1) -> float:
    """How long an answer takes, of values drawn between their bounds."""
    values = np.random.default_rng(0).uniform(*manifest.input.value_range, manifest.input.shape)
    noise = {"sigma": 0.5, "noise": manifest.variants[0].noise}
    body = {"inputs": [values.tolist()], "votes": votes, "variant": variant, "seed": 0} | noise
    began = time.perf_counter()
    answer = client.post(f"{url}/v1/models/{manifest.name}/predict", json=body)
    seconds = time.perf_counter() - began
    if answer.status_code != 200:
        raise RuntimeError(f"{manifest.name}: {answer.status_code}: {answer.text}")
    return seconds


def starts(rounds: int) -> dict[str, Any]:
    """Every start, in turns."""
    imported: list[Imports] = []
    found: dict[str, list[list[Start]]] = {name: [[], []] for name in STARTS}
    for _ in range(rounds):
        for name, flags in STARTS.items():
            imported.append(imports())
            with tempfile.TemporaryDirectory() as folder:
                for turn in found[name]:
                    turn.append(start(flags, Path(folder) / "timings.json"))
    return {
        "rounds": rounds,
        "imports": medians(imported),
        "starts": {
            name: {when: medians(turn) for when, turn in zip(("first", "second"), turns, strict=True)}
            for name, turns in found.items()
        },
    }


def medians(rows: Sequence[Imports] | Sequence[Start]) -> dict[str, float]:
    """The median of each figure."""
    dicts = [asdict(row) for row in rows]
    return {key: round(statistics.median(each[key] for each in dicts), 3) for key in dicts[0]}


def warm_mib() -> float:
    """Resident MiB of a server once each variant of all models has computed four requests of 64 votes at once."""
    with tempfile.TemporaryDirectory() as folder, serving((), Path(folder) / "timings.json") as server:
        with httpx.Client(timeout=TIMEOUT_S) as client, ThreadPoolExecutor(4) as pool:
            for manifest in manifests():
                for variant in manifest.variants:
                    asked = (server.url, client, manifest, variant.name, 64)
                    list(pool.map(lambda _, asked=asked: seconds_of(*asked), range(4)))
        return resident_mib(server.pid)


def first_answers() -> dict[str, dict[str, float]]:
    """Seconds of the first and the third answer of each model of a server that loads lazily and knows nothing."""
    found = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(("--lazy",), Path(folder) / "timings.json") as server,
        httpx.Client(timeout=TIMEOUT_S) as client,
    ):
        for manifest in manifests():
            first, _, third = (seconds_of(server.url, client, manifest) for _ in range(3))
            found[manifest.name] = {"first_s": round(first, 3), "third_s": round(third, 4)}
    return found


def table(figures: dict[str, Any]) -> list[str]:
    """For documents."""
    base = figures["imports"]
    lines = [
        f"Medians of {figures['rounds']} rounds. Importing the server takes {base['seconds']:.2f} s "
        f"({base['processor_s']:.2f} s of processor time) and {base['mib']:.0f} MiB.",
        "",
        "| server of | start | ready s | after imports s | processor s | MiB when ready | first answer ms | MiB then |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, turns in figures["starts"].items():
        for when, row in turns.items():
            lines.append(
                f"| {name} | {when} | {row['ready_s']:.2f} | {row['ready_s'] - base['seconds']:.2f} | "
                f"{row['processor_s']:.2f} | {row['ready_mib']:.0f} | {1e3 * row['answer_s']:.0f} | "
                f"{row['answered_mib']:.0f} |"
            )
    lines += ["", f"All models, once every variant has computed many votes: {figures['warm_mib']:.0f} MiB.", ""]
    lines += ["One vote of each model, lazily, with nothing kept:", ""]
    lines += ["| model | first answer ms | third answer ms |", "|---|---|---|"]
    return lines + [
        f"| {name} | {1e3 * row['first_s']:.0f} | {1e3 * row['third_s']:.1f} |"
        for name, row in figures["first_answers"].items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starts", description=__doc__)
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.md")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    figures = starts(options.rounds) | {"warm_mib": round(warm_mib(), 1), "first_answers": first_answers()}
    rows = table(figures)
    print(*rows, sep="\n")
    if options.out:
        write(options.out, figures, rows, "Starting a server")


if __name__ == "__main__":
    main()
