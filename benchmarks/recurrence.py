"""stroke-lstm exported with its recurrence as one ONNX Scan, and unrolled into one node after another.

`python -m benchmarks.recurrence` measures both files on one thread, with the kernel and in ONNX Runtime as it comes.
"""

import argparse
import time
from pathlib import Path
from typing import ClassVar

import torch

from benchmarks.graphs import feeds, running, session_of
from benchmarks.report import write
from benchmarks.timing import in_turns
from noisevote.noise_op.library import Kernel, load_kernel
from noisevote.training.networks.stroke_lstm import StrokeLstm
from noisevote.training.publish.export import export
from noisevote.training.runs.recipe import Recipe

HEADER = ["| figure | Scan | unrolled | Scan ÷ unrolled |", "|---|---|---|---|"]
BATCHES = ((1, 1), (1, 4), (1, 16), (2, 20), (64, 1))  # inputs, votes
ROUNDS = 100
LOADS = 5
BODY_ROUNDS = 5

Files = dict[str, bytes]
Figures = dict[str, dict[str, float]]  # figure to contender to value


class _Unrolled(StrokeLstm):
    scanned: ClassVar[bool] = False


def main() -> None:
    """Measure, print the table, and write it where `--out` says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recurrence", description=__doc__)
    parser.add_argument("--out", type=Path, help="also write the figures to OUT.json and the table to OUT.md")
    options = parser.parse_args()
    kernel = load_kernel()
    if kernel is None:
        raise SystemExit("benchmarks: need the native kernel; install a C++ compiler and run make again")
    figures = measure(kernel)
    table = [*HEADER, *(_row(name, found) for name, found in figures.items())]
    print(*table, sep="\n")
    if options.out:
        write(options.out, figures, table, "Scan and unrolling")


def measure(kernel: Kernel) -> Figures:
    """File size, time to make a session, and milliseconds a batch of both files."""
    files = {"Scan": _file(StrokeLstm), "unrolled": _file(_Unrolled)}
    figures: Figures = {"file (kB)": {name: len(content) / 1e3 for name, content in files.items()}}
    figures["session, kernel (ms)"] = _loading(files, kernel)
    figures["session, function body (ms)"] = _loading(files, None)
    for inputs, votes in BATCHES:
        name = f"{inputs} × {votes} votes, kernel (ms)"
        figures[name] = _running(files, kernel, inputs, votes, ROUNDS)
    figures["1 × 16 votes, function body (ms)"] = _running(files, None, 1, 16, BODY_ROUNDS)
    return figures


def _file(network: type[StrokeLstm]) -> bytes:
    torch.manual_seed(0)
    model = export(network(free_scale=True).eval(), Recipe(network="stroke-lstm"))
    return bytes(model.SerializeToString(deterministic=True))


def _loading(files: Files, kernel: Kernel | None) -> dict[str, float]:
    """Least milliseconds that a session took to make."""
    least = {}
    for name, content in files.items():
        seconds = []
        for _ in range(LOADS):
            start = time.perf_counter()
            session_of(content, 1, kernel)
            seconds.append(time.perf_counter() - start)
        least[name] = min(seconds) * 1e3
    return least


def _running(files: Files, kernel: Kernel | None, inputs: int, votes: int, rounds: int) -> dict[str, float]:
    """Median milliseconds a batch."""
    sessions = {name: session_of(content, 1, kernel) for name, content in files.items()}
    batch = feeds(sessions["Scan"], inputs, votes)
    timings = in_turns({name: running(session, batch) for name, session in sessions.items()}, rounds)
    return {name: timings.median(name) * 1e3 for name in files}


def _row(name: str, found: dict[str, float]) -> str:
    scan, unrolled = found["Scan"], found["unrolled"]
    return f"| {name} | {scan:.4g} | {unrolled:.4g} | {scan / unrolled:.3g} |"


if __name__ == "__main__":
    main()
