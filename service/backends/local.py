"""Votes computed by threads of this process."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from noisevote.engine.trial import TrialLimits
from noisevote.model_store.store import ModelStore
from noisevote.service.metrics import Metrics
from noisevote.service.models.loading import Loader, LoadLimits
from noisevote.service.models.registry import ModelRegistry
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.engine import Engine
from noisevote.service.scheduling.scheduler import MOST_SHARING, QueueLimits, Scheduler
from noisevote.service.scheduling.workers import BatchResult, WorkerPool
from noisevote.service.settings import Settings
from noisevote.service.traces import NO_TRACES, Traces

Result = TypeVar("Result")

# How long loading may take to end once it is given up: the run or the file that is under way.
ABANDON_S: Final = 1.0


class LocalBackend:
    """The threads of this process, with an engine of its own."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics, traces: Traces = NO_TRACES) -> None:
        self.description = f"{engine.description}, {settings.threads} thread{'s' if settings.threads > 1 else ''}"
        limits = QueueLimits(rows=settings.queue_rows, bytes=settings.queue_bytes)
        workers = WorkerPool(Scheduler(limits), engine, settings.threads, settings.batch_rows, time.perf_counter)

        def observe(result: BatchResult) -> None:
            metrics.observe_batch(result)
            traces.computed(result)

        self.dispatcher = Dispatcher(workers, observe, time.perf_counter)
        self._settings = settings
        self._engine = engine

    async def load(self) -> ModelRegistry:
        """Load and time the models of the store. Cancelled, it ends at once, whatever hangs."""
        settings = self._settings
        limits = LoadLimits(
            TrialLimits(settings.load_seconds, settings.load_bytes),
            input_bytes=settings.queue_bytes // MOST_SHARING,  # a batch shares so many, while they are timed and later
        )
        store = ModelStore(settings.model_store)
        loader = Loader(store, self._engine, settings.batch_rows, time.perf_counter, limits)
        loading = _in_thread(loader.load)
        try:
            registry = await asyncio.shield(loading)
        except asyncio.CancelledError:
            loader.abandon()
            await asyncio.wait({loading}, timeout=ABANDON_S)
            raise
        self.dispatcher.expect(registry.profiles())
        return registry


def _in_thread(function: Callable[[], Result]) -> asyncio.Future[Result]:
    """What a function returns, on a thread that keeps no process from ending, unlike those of `asyncio.to_thread`."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def set_result(outcome: Result) -> None:
        if not future.done():
            future.set_result(outcome)

    def set_exception(error: Exception) -> None:
        if not future.done():
            future.set_exception(error)
            future.exception()  # nobody may be waiting for it any more

    def run() -> None:
        try:
            outcome = function()
        except Exception as error:
            tell(set_exception, error)
        else:
            tell(set_result, outcome)

    def tell(done: Callable[..., None], value: object) -> None:
        with suppress(RuntimeError):  # the event loop has ended meanwhile
            loop.call_soon_threadsafe(done, value)

    threading.Thread(target=run, name="load models", daemon=True).start()
    return future
