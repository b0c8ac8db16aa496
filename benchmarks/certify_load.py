"""One-vote predictions while clients certify: how long they take, in batch times.

    python -m benchmarks.certify_load --out docs/results/certify-load

In one process, without HTTP, through the same parts of the service as a request. Clients ask for certificates of
100,000 votes under the fixed rule, one after another; another one asks for predictions of one vote. The batch time is
the median over all batches, from handing one to a lane until its votes are counted, as /metrics has it. The last
figure is the most batches that began after a prediction came and before the one with its vote. Without
--model a network of random weights is served, in the size of those that certify on MNIST.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import write
from benchmarks.smoothed_graph import CLASSES, SHAPE, smoothed_graph
from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.model_store.manifest import InputSpec, Manifest, Operator, Provenance, Variant
from noisevote.model_store.store import ModelStore, digest
from noisevote.noise_op.library import load_kernel
from noisevote.service.backends.local import LocalBackend
from noisevote.service.cpus import usable_cpus
from noisevote.service.metrics import Metrics
from noisevote.service.prediction.certify_options import CertifyRequest
from noisevote.service.prediction.options import PredictionRequest, VoteOptions
from noisevote.service.prediction.visit import Visit
from noisevote.service.runtime import Runtime
from noisevote.service.scheduling.workers import BatchResult
from noisevote.service.settings import Settings

TITLE = "One vote while others certify"
HEADER = (
    "| clients that certify | 1-vote requests | median | 99th percentile | longest | batch time | its 99th percentile "
    "| 99th percentile ÷ batch time | batches before its own |"
)
RULE = "|---|---|---|---|---|---|---|---|---|"
SIGMA = 0.5
PAUSE_S = 0.02  # mean of the exponential pauses between probes


@dataclass
class Seen:
    """Seconds of the probes and of the batches meanwhile, and votes that were cast.

    `came` tells when each probe came, `began` when each batch did, `own` when that with each probe's vote did.
    """

    probes: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    rows: int = 0

    def overtaken(self) -> int:
        """Most batches that began after a probe came and before that with its vote."""
        began = np.sort(self.began)
        between = np.searchsorted(began, sorted(self.own)) - np.searchsorted(began, sorted(self.came), side="right")
        return int(between.max())


class Watched(Metrics):
    """Tells of every batch."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen

    def observe_batch(self, result: BatchResult) -> None:
        """See `Metrics`."""
        super().observe_batch(result)
        self._seen.batches.append(result.seconds)
        self._seen.rows += len(result.batch)
        self._seen.began.append(result.began)
        if any(share.request.votes == 1 for share in result.batch.shares):
            self._seen.own.append(result.began)


def main() -> None:
    """Measure without and with clients that certify, and print both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.certify_load", description=__doc__)
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--model", help="one that certifies")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--lanes", type=int, default=usable_cpus())
    parser.add_argument("--rows", type=int, default=16, help="of a batch; fixed, as timing them on a busy machine errs")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.model is None:
            options.model_store, options.model = Path(folder), "smoothed"
            published = publish(ModelStore(options.model_store), options.model)
        else:
            published = ModelStore(options.model_store).manifest(options.model)
        figures = {str(clients): asyncio.run(_measure(published, clients, options)) for clients in (0, options.clients)}
    table = [HEADER, RULE, *(_row(name, each) for name, each in figures.items())]
    print(*table, sep="\n")
    if options.out:
        about = (
            f"{options.lanes} lanes, batches of {options.rows} rows; {os.getloadavg()[0]:.1f} processes ran "
            "or waited to run on the machine in the end. Each certificate takes 100,000 votes in slices."
        )
        write(options.out, figures, [about, "", *table], TITLE, f"{published.name} {published.version}")


def publish(store: ModelStore, name: str) -> Manifest:
    """A version with random weights; it certifies, though nothing of worth."""
    content = smoothed_graph()
    variant = Variant(
        name="random",
        file="random.onnx",
        sha256=digest(content),
        bytes=len(content),
        noise="additive",
        sigma_train=0,
        network="random",
        recipe={},
        provenance=Provenance(data_set="none", files={}, train_images=1),
        parameters=1,
        multiply_accumulates=1,
        samples=784,
        layers=1,
        accuracy=(),
        certifies=SIGMA,
    )
    manifest = Manifest(
        name=name,
        version="1",
        title="Random weights",
        input=InputSpec(shape=SHAPE),
        classes=tuple(map(str, range(CLASSES))),
        operator=Operator(domain="noisevote", version=1),
        variants=(variant,),
    )
    store.publish(manifest, {"random": content})
    return manifest


async def _measure(published: Manifest, clients: int, options: argparse.Namespace) -> dict[str, float]:
    seen, started = Seen(), asyncio.Event()
    metrics = Watched(seen)
    settings = Settings(model_store=options.model_store, threads=options.lanes)
    backend = LocalBackend(settings, OnnxEngine(load_kernel()), metrics)
    runtime = Runtime(settings, backend, metrics, lambda _: started.set())
    runtime.start()
    await started.wait()
    if runtime.problem is not None:
        raise SystemExit(f"certify_load: {runtime.problem}")
    profiles = runtime.registry.profiles()
    backend.dispatcher.expect({key: replace(each, rows=options.rows) for key, each in profiles.items()})
    certifying = [asyncio.create_task(_keep_certifying(runtime, published, i)) for i in range(clients)]
    await asyncio.sleep(1)
    seen.batches.clear()
    seen.rows = 0
    began = time.perf_counter()
    await _probe(runtime, published, seen, began + options.seconds)
    rows_a_second = seen.rows / (time.perf_counter() - began)
    for task in certifying:
        task.cancel()
    await asyncio.gather(*certifying, return_exceptions=True)
    await runtime.close()
    return _figures(seen) | {"votes_per_second": rows_a_second}


async def _probe(runtime: Runtime, published: Manifest, seen: Seen, end: float) -> None:
    pauses, image = np.random.default_rng(0), _image(published, 99)
    options = VoteOptions(sigma=SIGMA, noise="additive", votes=1)
    asked = PredictionRequest(options, 1, lambda _: image)
    while time.perf_counter() < end:
        await asyncio.sleep(pauses.exponential(PAUSE_S))
        began = time.perf_counter()
        async with runtime.predictor.accept(published.name, None, _no_body, lambda *_: asked, Visit()) as prediction:
            await prediction.answer()
        seen.probes.append(time.perf_counter() - began)
        seen.came.append(began)


async def _keep_certifying(runtime: Runtime, published: Manifest, client: int) -> None:
    image = _image(published, client)
    asked = CertifyRequest(1, lambda _: image)
    while True:
        async with runtime.certifier.accept(published.name, None, _no_body, lambda *_: asked, Visit()) as certification:
            await certification.certificates()


async def _no_body() -> bytes:
    return b""


def _image(published: Manifest, number: int) -> NDArray[np.float32]:
    low, high = published.input.value_range
    return np.random.default_rng(number).uniform(low, high, (1, *published.input.shape)).astype(np.float32)


def _figures(seen: Seen) -> dict[str, float]:
    batch = statistics.median(seen.batches)
    last = float(np.percentile(seen.probes, 99))
    return {
        "requests": len(seen.probes),
        "median_ms": 1e3 * statistics.median(seen.probes),
        "p99_ms": 1e3 * last,
        "longest_ms": 1e3 * max(seen.probes),
        "batch_ms": 1e3 * batch,
        "batch_p99_ms": 1e3 * float(np.percentile(seen.batches, 99)),
        "p99_in_batch_times": last / batch,
        "most_batches_between": seen.overtaken(),
    }


def _row(name: str, figures: dict[str, float]) -> str:
    times = [f"{figures[key]:.1f} ms" for key in ("median_ms", "p99_ms", "longest_ms", "batch_ms", "batch_p99_ms")]
    cells = [
        name,
        str(figures["requests"]),
        *times,
        f"{figures['p99_in_batch_times']:.1f}",
        str(figures["most_batches_between"]),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
