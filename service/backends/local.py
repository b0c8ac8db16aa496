"""Who computes the votes: the lanes of this process, or replicas elsewhere."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from noisevote.model_store.store import ModelStore
from noisevote.service.backends.replicated import Ask, ReplicatedDispatcher, Spreading
from noisevote.service.metrics import Metrics
from noisevote.service.models.registry import ModelRegistry, load_models
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.engine import Engine
from noisevote.service.scheduling.scheduler import QueueLimits, Scheduler
from noisevote.service.scheduling.workers import WorkerPool
from noisevote.service.settings import Settings


class Backend(Protocol):
    """What `Serving` needs of whoever computes; `description` says how, for people."""

    description: str

    @property
    def dispatcher(self) -> Dispatcher | ReplicatedDispatcher:
        """Takes requests and runs them to their end."""

    async def load(self) -> ModelRegistry:
        """What can be computed, once it can be."""


class LocalBackend:
    """The threads of this process, with an engine of its own."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self.description = f"{engine.description}, {settings.threads} thread{'s' if settings.threads > 1 else ''}"
        self.dispatcher = Dispatcher(
            WorkerPool(
                Scheduler(queue_limits(settings)), engine, settings.threads, settings.batch_rows, time.perf_counter
            ),
            metrics,
            time.perf_counter,
        )
        self._settings = settings
        self._engine = engine

    async def load(self) -> ModelRegistry:
        """Load and time the models of the store."""
        store = ModelStore(self._settings.model_store)
        rows = self._settings.batch_rows
        registry = await asyncio.to_thread(load_models, store, self._engine, rows, time.perf_counter)
        self.dispatcher.expect(registry.profiles())
        return registry


class ReplicatedBackend:
    """Replicas, reached by `ask`; what they serve they say themselves, which takes until one of them has loaded it."""

    def __init__(
        self, settings: Settings, spreading: Spreading, ask: Ask, registry: Callable[[], Awaitable[ModelRegistry]]
    ) -> None:
        self.description = f"on replicas, in parts of {spreading.part_rows} votes"
        self.dispatcher = ReplicatedDispatcher(ask, queue_limits(settings), spreading, time.perf_counter)
        self._registry = registry

    async def load(self) -> ModelRegistry:
        """As the first replica that answers has it."""
        return await self._registry()


def queue_limits(settings: Settings) -> QueueLimits:
    """What may wait, by the settings."""
    return QueueLimits(rows=settings.queue_rows, bytes=settings.queue_bytes)
