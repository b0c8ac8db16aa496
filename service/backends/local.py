"""Votes computed by threads of this process."""

import time

from noisevote.engine.trial import TrialLimits
from noisevote.model_store.store import ModelStore
from noisevote.service.metrics import Metrics
from noisevote.service.models.choice import Choice
from noisevote.service.models.findings import Findings
from noisevote.service.models.loading import Loader, LoadLimits
from noisevote.service.models.local_repository import LocalRepository
from noisevote.service.models.registry import ModelRegistry
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.engine import Engine
from noisevote.service.scheduling.scheduler import QueueLimits, Scheduler
from noisevote.service.scheduling.turns import MOST_SHARING
from noisevote.service.scheduling.workers import BatchResult, WorkerPool
from noisevote.service.settings import Settings
from noisevote.service.traces import NO_TRACES, Traces


class LocalBackend:
    """The threads of this process, with an engine of its own.

    `keeps`: see `LocalRepository`.
    """

    def __init__(
        self, settings: Settings, engine: Engine, metrics: Metrics, traces: Traces = NO_TRACES, *, keeps: bool = False
    ) -> None:
        self.description = f"{engine.description}, {settings.threads} thread{'s' if settings.threads > 1 else ''}"
        limits = QueueLimits(rows=settings.queue_rows, bytes=settings.queue_bytes)
        workers = WorkerPool(Scheduler(limits), engine, settings.threads, settings.batch_rows, time.perf_counter)

        def observe(result: BatchResult) -> None:
            metrics.observe_batch(result)
            traces.computed(result)

        self.dispatcher = Dispatcher(workers, observe, time.perf_counter)
        load_limits = LoadLimits(
            TrialLimits(settings.load_seconds, settings.load_bytes),
            input_bytes=settings.queue_bytes // MOST_SHARING,  # a batch shares so many, while they are timed and later
            batch_bytes=settings.most_batch_bytes,
        )
        store = ModelStore(settings.model_store)
        findings = Findings(settings.timings_file, engine.build, settings.batch_rows)
        self.repository = LocalRepository(
            store,
            # Processor time: what else this machine does meanwhile says nothing of a model.
            Loader(store, engine, settings.batch_rows, time.thread_time, load_limits, findings),
            engine,
            self.dispatcher,
            Choice(settings.models, settings.newest_versions),
            lazy=settings.lazy or settings.model_bytes is not None,
            most_bytes=settings.model_bytes,
            keeps=keeps,
        )

    async def load(self) -> ModelRegistry:
        """Load and time the models of the store. Cancelled, it ends at once, whatever hangs."""
        return await self.repository.open()
