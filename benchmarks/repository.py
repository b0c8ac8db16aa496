"""What clients notice of a hundred reloads, and what memory they leave.

python -m benchmarks.repository --out docs/results/repository
"""

import argparse
import asyncio
import json
import statistics
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
from benchmarks.server_process import Started, resident_mib, started
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
def server(store: Path, *flags: str) -> Iterator[Started]:
    """A server on two threads that takes the key of `ADMIN`, and knows nothing of earlier ones."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.jsonl"
        keys.write_text(key_line("ops", ["admin"], "ops") + "\n")
        given = ("--threads", "2", "--model-store", str(store), "--keys-file", str(keys))
        with started((*given, "--timings-file", "off", "--log-level", "error", *flags)) as ready:
            yield ready


def body(manifest: Manifest, votes: int = 20, seed: int = 0, **more: Any) -> dict[str, Any]:
    """A request for one input: values drawn between their bounds, at sigma 0.5 of the noise that it was trained on."""
    low, high = manifest.input.value_range
    values = np.random.default_rng(seed).uniform(low, high, manifest.input.shape)
    kind = manifest.variants[0].noise
    return {"inputs": [values.tolist()], "votes": votes, "sigma": 0.5, "noise": kind, "seed": seed} | more


class Editions:
    """Versions of one model in a store, in turns with the weights of one variant and of another.

    Each file differs from all before, by a comment, so that none is known when it is loaded.
    """

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        source = ModelStore(STORE)
        self._manifest = source.manifest(MODEL)
        self.source = self._manifest.version
        alike = [each for each in self._manifest.variants if each.precision == "float32"]
        self._contents = [source.read(self._manifest, variant) for variant in alike[-2:]]
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
        with server(store.root, "--newest-versions", "2") as ready:
            url = ready.url
            bodies = [json.dumps(body(manifests[0], seed=seed)).encode() for seed in SEEDS]
            expected = await histograms(url, bodies)
            quiet, busy, memory, took = Load(), Load(), list[float](), list[float]()

            async def reload() -> None:
                async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=ADMIN) as client:
                    for _ in range(reloads // rounds):
                        await asyncio.to_thread(editions.publish)  # else the clients would wait for it, and seem slow
                        began = time.perf_counter()
                        answer = await client.post(f"{url}/v1/admin/refresh")
                        took.append(time.perf_counter() - began)
                        entries = {each["version"]: each for each in answer.json()["models"]}
                        assert entries[str(editions.newest)]["serving"], entries
                        await asyncio.sleep(DRAINED_S)
                        memory.append(resident_mib(ready.pid))

            await loaded(url, bodies, expected, Load(), partial(asyncio.sleep, warm_s))
            for _ in range(rounds):
                before = sum(took)
                await loaded(url, bodies, expected, busy, reload)
                await loaded(url, bodies, expected, quiet, partial(asyncio.sleep, (sum(took) - before) / 4))
    return {
        "model": f"{MODEL} {editions.source}",
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


def table(found: dict[str, Any]) -> list[str]:
    """For documents."""
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
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args(arguments)
    figures = asyncio.run(reload_under_load(asked.reloads, asked.rounds))
    write(asked.out, figures, table(figures), "Models that come and go", figures["model"])
    print("\n".join(table(figures)))


if __name__ == "__main__":
    main()
