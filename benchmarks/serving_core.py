"""The server without HTTP: published models, engine, scheduler and dispatcher, for measurements in one process."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import sigma_row
from noisevote.noise_op.library import load_kernel
from noisevote.service.metrics import Metrics
from noisevote.service.models.loading import load_models
from noisevote.service.models.registry import ModelRegistry, ServedVersion
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.engine import Engine
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import QueueLimits, Scheduler
from noisevote.service.scheduling.turns import FairTurns, NewTurns
from noisevote.service.scheduling.workers import BatchResult, WorkerPool
from noisevote.voting.stopping import Fixed, StopRule

MODEL = "mnist-cnn"
AMPLE = QueueLimits(rows=10**9, bytes=10**10)


@dataclass(frozen=True)
class Core:
    """Loaded models and their engine."""

    engine: Engine
    registry: ModelRegistry

    @property
    def served(self) -> ServedVersion:
        """The newest version of the measured model."""
        return self.registry.version(MODEL)

    @property
    def model(self) -> str:
        """Its name and version, for records."""
        return f"{MODEL} {self.served.manifest.version}"

    def request(
        self,
        inputs: NDArray[np.float32],
        sigma: float,
        votes: int,
        rule: StopRule | None = None,
        seed: int = 0,
        variant_votes: int | None = None,
    ) -> VoteRequest:
        """Multiplicative noise, variant `auto` for `variant_votes` (default: `votes`) votes."""
        variant = self.served.best("multiplicative", sigma, variant_votes or votes, 1, "float32")
        noise = sigma_row("multiplicative", sigma)
        return VoteRequest(self.served.key(variant), inputs, 10, noise, seed, votes, rule or Fixed())

    @asynccontextmanager
    async def dispatching(
        self, lanes: int, observe: Callable[[BatchResult], None] | None = None, turns: NewTurns = FairTurns
    ) -> AsyncIterator[Dispatcher]:
        """A dispatcher at work, with the measured batch sizes; in another order nobody is short."""
        scheduler = Scheduler(AMPLE, turns, short_first=turns is FairTurns)
        threads = WorkerPool(scheduler, self.engine, lanes, 32, time.perf_counter)
        dispatcher = Dispatcher(threads, observe or Metrics().observe_batch, time.perf_counter)
        dispatcher.expect(self.registry.profiles())
        dispatcher.start()
        try:
            yield dispatcher
        finally:
            await dispatcher.close()


def load_core(store: Path) -> Core:
    """Load the published models on the native kernel."""
    engine = OnnxEngine(load_kernel())
    return Core(engine, load_models(ModelStore(store), engine, 32, time.thread_time))
