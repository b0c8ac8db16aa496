"""Who computes the votes: the lanes of this process, or replicas elsewhere."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from noisevote.model_store.store import ModelStore
from noisevote.service.backends.replicated import Ask, Spreader, Spreading
from noisevote.service.metrics import Metrics
from noisevote.service.models.registry import Catalogue, load_catalogue
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.engine import Engine
from noisevote.service.scheduling.scheduler import QueueLimits, Scheduler
from noisevote.service.scheduling.workers import Lanes
from noisevote.service.settings import Settings


class Computing(Protocol):
    """What `Serving` needs of whoever computes; `description` says how, for people."""

    description: str

    @property
    def dispatcher(self) -> Dispatcher | Spreader:
        """Takes requests and runs them to their end."""

    async def load(self) -> Catalogue:
        """What can be computed, once it can be."""


class OwnLanes:
    """The threads of this process, with an engine of its own."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self.description = f"{engine.description}, {settings.threads} thread{'s' if settings.threads > 1 else ''}"
        self.dispatcher = Dispatcher(
            Lanes(Scheduler(queue_limits(settings)), engine, settings.threads, settings.batch_rows, time.perf_counter),
            metrics,
            time.perf_counter,
        )
        self._settings = settings
        self._engine = engine

    async def load(self) -> Catalogue:
        """Load and time the models of the store."""
        store = ModelStore(self._settings.model_store)
        rows = self._settings.batch_rows
        catalogue = await asyncio.to_thread(load_catalogue, store, self._engine, rows, time.perf_counter)
        self.dispatcher.expect(catalogue.paces())
        return catalogue


class Replicas:
    """Replicas, reached by `ask`; what they serve they say themselves, which takes until one of them has loaded it."""

    def __init__(
        self, settings: Settings, spreading: Spreading, ask: Ask, catalogue: Callable[[], Awaitable[Catalogue]]
    ) -> None:
        self.description = f"on replicas, in parts of {spreading.part_rows} votes"
        self.dispatcher = Spreader(ask, queue_limits(settings), spreading, time.perf_counter)
        self._catalogue = catalogue

    async def load(self) -> Catalogue:
        """As the first replica that answers has it."""
        return await self._catalogue()


def queue_limits(settings: Settings) -> QueueLimits:
    """What may wait, by the settings."""
    return QueueLimits(rows=settings.queue_rows, bytes=settings.queue_bytes)
