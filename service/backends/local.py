"""Votes computed by threads of this process."""

import asyncio
import time

from noisevote.model_store.store import ModelStore
from noisevote.service.metrics import Metrics
from noisevote.service.models.loading import load_models
from noisevote.service.models.registry import ModelRegistry
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.engine import Engine
from noisevote.service.scheduling.scheduler import QueueLimits, Scheduler
from noisevote.service.scheduling.workers import WorkerPool
from noisevote.service.settings import Settings


class LocalBackend:
    """The threads of this process, with an engine of its own."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self.description = f"{engine.description}, {settings.threads} thread{'s' if settings.threads > 1 else ''}"
        limits = QueueLimits(rows=settings.queue_rows, bytes=settings.queue_bytes)
        workers = WorkerPool(Scheduler(limits), engine, settings.threads, settings.batch_rows, time.perf_counter)
        self.dispatcher = Dispatcher(workers, metrics.observe_batch, time.perf_counter)
        self._settings = settings
        self._engine = engine

    async def load(self) -> ModelRegistry:
        """Load and time the models of the store."""
        store = ModelStore(self._settings.model_store)
        rows = self._settings.batch_rows
        registry = await asyncio.to_thread(load_models, store, self._engine, rows, time.perf_counter)
        self.dispatcher.expect(registry.profiles())
        return registry
