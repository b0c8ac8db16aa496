"""What starting, first answers and a hundred reloads take, and what memory they leave.

python -m benchmarks.repository --out docs/results/repository
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from benchmarks.connections import Connections
from benchmarks.report import write
from noisevote.model_store.manifest import Manifest
from noisevote.model_store.store import ModelStore, digest
from noisevote.service.rest.keys import key_line

STORE: Final = Path(__file__).resolve().parent.parent / "model_store" / "models"
MODEL: Final = "mnist-cnn"
ADMIN: Final = {"authorization": "Bearer ops"}
SEEDS: Final = range(16)
CLIENTS: Final = 8
TIMEOUT_S: Final = 300.0
# Clients ask for so long before anything is measured, and after a reload until memory is.
WARM_S: Final = 5.0
DRAINED_S: Final = 0.2
SERVED: Final = "v"
# Answers for each version, by seed.
Histograms = dict[int, list[list[int]]]


@contextmanager
def server(store: Path, *flags: str) -> Iterator[tuple[str, int, float]]:
    """Address, process id and seconds to readiness of a server on two threads that takes the key of `ADMIN`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NOISEVOTE_")}
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.jsonl"
        keys.write_text(key_line("ops", ["admin"], "ops") + "\n")
        given = ("--port", "0", "--threads", "2", "--model-store", str(store), "--keys-file", str(keys), *flags)
        began = time.perf_counter()
        command = [sys.executable, "-m", "noisevote", "serve", *given]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                found = re.search(r"http://\S+", line)
                if found is None:
                    raise RuntimeError(f"the server did not start: {line!r}, status {process.wait()}")
                yield found.group(), process.pid, time.perf_counter() - began
            finally:
                process.terminate()


def memory_mib(process: int) -> float:
    """What a process has in memory now."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def import_seconds() -> float:
    """What a process takes that imports the server and ends: the least of three."""

    def once() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import noisevote.service.__main__"], check=True)
        return time.perf_counter() - began

    return min(once() for _ in range(3))


def body(manifest: Manifest, votes: int = 20, seed: int = 0, **more: Any) -> dict[str, Any]:
    """A request for one input: values drawn between their bounds, at sigma 0.5 of the noise that it was trained on."""
    low, high = manifest.input.value_range
    values = np.random.default_rng(seed).uniform(low, high, manifest.input.shape)
    kind = manifest.variants[0].noise
    return {"inputs": [values.tolist()], "votes": votes, "sigma": 0.5, "noise": kind, "seed": seed} | more


def starts() -> list[dict[str, Any]]:
    """Starts of servers of one model, of all models, and of all models lazily."""
    imports = import_seconds()
    rows = []
    for name, flags in {"one model": ("--models", MODEL), "all models": (), "lazily": ("--lazy",)}.items():
        with server(STORE, *flags) as (url, process, seconds):
            ready = memory_mib(process)
            manifests = served(url)
            if name != "lazily":
                warm(url, manifests)
            rows.append(
                {
                    "start": name,
                    "variants": sum(len(manifest.variants) for manifest in manifests),
                    "imports_s": imports,
                    "ready_s": seconds,
                    "ready_mib": ready,
                    "warm_mib": memory_mib(process) if name != "lazily" else None,
                }
            )
    return rows


def served(url: str) -> list[Manifest]:
    """Manifests of what is served."""
    models = httpx.get(f"{url}/v1/models", timeout=TIMEOUT_S).json()["models"]
    return [Manifest.model_validate(model["manifest"]) for model in models]


def warm(url: str, manifests: Sequence[Manifest]) -> None:
    """Let each variant run the batches of two requests at once that have many votes."""

    async def ask_all() -> None:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            for manifest in manifests:
                for variant in manifest.variants:
                    asked = body(manifest, votes=64, variant=variant.name)
                    path = f"{url}/v1/models/{manifest.name}/predict"
                    answers = await asyncio.gather(*(client.post(path, json=asked) for _ in range(4)))
                    assert all(answer.status_code == 200 for answer in answers)

    asyncio.run(ask_all())


def first_answers() -> list[dict[str, Any]]:
    """Seconds of the first and the third answer of each model of a server that loads lazily."""
    rows = []
    with server(STORE, "--lazy") as (url, _, _), httpx.Client(timeout=TIMEOUT_S) as client:
        for manifest in served(url):
            times = []
            for seed in range(3):
                began = time.perf_counter()
                answer = client.post(f"{url}/v1/models/{manifest.name}/predict", json=body(manifest, 1, seed))
                times.append(time.perf_counter() - began)
                assert answer.status_code == 200, answer.text
            rows.append({"model": manifest.name, "first_ms": 1e3 * times[0], "third_ms": 1e3 * times[2]})
    return rows


class Editions:
    """Versions of one model in a store, in turns with the weights of one variant and of another.

    Each file differs from all before, by a comment, so that none is known when it is loaded.
    """

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        source = ModelStore(STORE)
        self._manifest = source.manifest(MODEL)
        self._contents = [source.read(self._manifest, variant) for variant in self._manifest.variants[-2:]]
        self.newest = 0

    def publish(self) -> Manifest:
        """The next version."""
        self.newest += 1
        content = self._contents[self.newest % 2] + _comment(f"edition {self.newest}")
        variant = self._manifest.variants[0].model_copy(
            update={"name": SERVED, "file": f"{SERVED}.onnx", "sha256": digest(content), "bytes": len(content)}
        )
        manifest = self._manifest.model_copy(update={"version": str(self.newest), "variants": (variant,)})
        self._store.publish(manifest, {SERVED: content})
        return manifest


def _comment(text: str) -> bytes:
    """The field `doc_string` of an ONNX file, which may be anywhere in it; the last one counts."""
    return b"\x32" + bytes([len(text)]) + text.encode()


@dataclass
class Load:
    """What clients got that ask over and over: seconds of each request, and which answers were not as expected."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def p99_ms(self) -> float:
        """The 99th percentile."""
        return 1e3 * float(np.percentile(self.seconds, 99))


async def ask(
    connections: Connections, bodies: list[bytes], expected: Histograms, load: Load, go_on: Callable[[], bool]
) -> None:
    """Be one client: each answer must have the histogram of its seed and of the version that it names."""
    turn = len(load.seconds)
    while go_on():
        turn += 1
        seed = turn % len(bodies)
        began = time.perf_counter()
        status, content = await connections.post(bodies[seed])
        load.seconds.append(time.perf_counter() - began)
        if status != 200:
            load.wrong.append(f"{status}: {content.decode()[:200]}")
            continue
        answer = json.loads(content)
        found = answer["predictions"][0]["histogram"]
        if found != expected[int(answer["version"]) % 2][seed]:
            load.wrong.append(f"version {answer['version']}, seed {seed}: {found}")


async def loaded(url: str, bodies: list[bytes], expected: Histograms, load: Load, work: Callable[[], Any]) -> None:
    """Let the clients ask while something is done."""
    connections = Connections(url, f"/v1/models/{MODEL}/predict")
    over = asyncio.Event()
    clients = [
        asyncio.create_task(ask(connections, bodies, expected, load, lambda: not over.is_set())) for _ in range(CLIENTS)
    ]
    try:
        await work()
    finally:
        over.set()
        await asyncio.gather(*clients)
        connections.close()


async def reload_under_load(reloads: int, rounds: int, warm_s: float = WARM_S) -> dict[str, Any]:
    """Publish and take up versions while clients ask, in turns with a quarter as much time without.

    Two versions are served at a time. Memory is that of the server when the clients of a reload have gone on for a
    while, after the third and after the last.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = ModelStore(Path(folder))
        editions = Editions(store)
        manifests = [editions.publish(), editions.publish()]
        with server(store.root, "--newest-versions", "2") as (url, process, _):
            bodies = [json.dumps(body(manifests[0], seed=seed)).encode() for seed in SEEDS]
            expected = await histograms(url, bodies)
            quiet, busy, memory, took = Load(), Load(), list[float](), list[float]()

            async def reload() -> None:
                async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=ADMIN) as client:
                    for _ in range(reloads // rounds):
                        editions.publish()
                        began = time.perf_counter()
                        answer = await client.post(f"{url}/v1/admin/refresh")
                        took.append(time.perf_counter() - began)
                        entries = {each["version"]: each for each in answer.json()["models"]}
                        assert entries[str(editions.newest)]["serving"], entries
                        await asyncio.sleep(DRAINED_S)
                        memory.append(memory_mib(process))

            await loaded(url, bodies, expected, Load(), partial(asyncio.sleep, warm_s))
            for _ in range(rounds):
                before = sum(took)
                await loaded(url, bodies, expected, busy, reload)
                await loaded(url, bodies, expected, quiet, partial(asyncio.sleep, (sum(took) - before) / 4))
    return {
        "reloads": len(took),
        "clients": CLIENTS,
        "requests": len(busy.seconds) + len(quiet.seconds),
        "failed": len(busy.wrong) + len(quiet.wrong),
        "problems": (busy.wrong + quiet.wrong)[:5],
        "reload_s": statistics.median(took),
        "p99_without_ms": quiet.p99_ms(),
        "p99_with_ms": busy.p99_ms(),
        "p99_ratio": busy.p99_ms() / quiet.p99_ms(),
        "memory_mib": memory,
        "memory_after_third_mib": memory[min(2, len(memory) - 1)],
        "memory_after_last_mib": memory[-1],
        "memory_ratio": memory[-1] / memory[min(2, len(memory) - 1)],
    }


async def histograms(url: str, bodies: list[bytes]) -> Histograms:
    """What each of the two kinds of versions answers, by seed."""
    found: Histograms = {}
    for version in (1, 2):
        connections = Connections(url, f"/v1/models/{MODEL}/versions/{version}/predict")
        answers = [json.loads((await connections.post(each))[1]) for each in bodies]
        found[version % 2] = [answer["predictions"][0]["histogram"] for answer in answers]
        connections.close()
    assert found[0] != found[1]
    return found


def table(figures: dict[str, Any]) -> list[str]:
    """For documents: the parts that were measured."""
    parts = [
        _starts(figures["starts"]) if "starts" in figures else [],
        _first_answers(figures["first_answers"]) if "first_answers" in figures else [],
        _reloads(figures["reloads"]) if "reloads" in figures else [],
    ]
    return [line for part in parts if part for line in ("", *part)][1:]


def _starts(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| start | variants | imports s | ready s | after imports s | MiB when ready | MiB once each has run |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        warm_mib = "" if row["warm_mib"] is None else f"{row['warm_mib']:.0f}"
        after = row["ready_s"] - row["imports_s"]
        lines.append(
            f"| {row['start']} | {row['variants']} | {row['imports_s']:.2f} | {row['ready_s']:.2f} | {after:.2f} | "
            f"{row['ready_mib']:.0f} | {warm_mib} |"
        )
    return lines


def _first_answers(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["Lazily, by model:", "", "| model | first answer ms | third answer ms |", "|---|---|---|"]
    return lines + [f"| {row['model']} | {row['first_ms']:.0f} | {row['third_ms']:.1f} |" for row in rows]


def _reloads(found: dict[str, Any]) -> list[str]:
    return [
        f"{found['reloads']} reloads, each of a version that was just published, beside {found['clients']} clients "
        "that ask for 20 votes each:",
        "",
        "| figure | |",
        "|---|---|",
        f"| requests | {found['requests']} |",
        f"| failed, or with another histogram than that of the version that the answer names | {found['failed']} |",
        f"| median reload s | {found['reload_s']:.2f} |",
        f"| 99th percentile without reloads ms | {found['p99_without_ms']:.1f} |",
        f"| 99th percentile with reloads ms | {found['p99_with_ms']:.1f} |",
        f"| with ÷ without | {found['p99_ratio']:.2f} |",
        f"| MiB after the third reload | {found['memory_after_third_mib']:.1f} |",
        f"| MiB after the last | {found['memory_after_last_mib']:.1f} |",
        f"| last ÷ third | {found['memory_ratio']:.3f} |",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="where to write OUT.json and OUT.md")
    parser.add_argument("--part", choices=("starts", "reloads"), help="measure this alone; the rest is as in OUT.json")
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args(arguments)
    known = asked.out.with_suffix(".json")
    figures = json.loads(known.read_text())["figures"] if asked.part and known.exists() else {}
    if asked.part != "reloads":
        figures |= {"starts": starts(), "first_answers": first_answers()}
    if asked.part != "starts":
        figures["reloads"] = asyncio.run(reload_under_load(asked.reloads, asked.rounds))
    write(asked.out, figures, table(figures), "Models that come and go", model=None)
    print("\n".join(table(figures)))


if __name__ == "__main__":
    main()
