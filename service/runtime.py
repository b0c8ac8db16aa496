"""What the routes work with, from start to end: settings, backend, and the models once they are loaded."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Final, cast

from fastapi import Request

from noisevote.service.backends.backend import Backend
from noisevote.service.errors import NotReadyError
from noisevote.service.metrics import Metrics
from noisevote.service.models.choice import NoSuchModelError
from noisevote.service.models.registry import ModelRegistry
from noisevote.service.prediction.certify import Certifier
from noisevote.service.prediction.handle import Predictor
from noisevote.service.prediction.long_bodies import LongBodyReader
from noisevote.service.prediction.policy import read_policies
from noisevote.service.prediction.quotas import QuotaBook
from noisevote.service.settings import Settings
from noisevote.service.traces import NO_TRACES, Traces
from noisevote.service.unread import UnreadBytes

logger = logging.getLogger(__name__)

# Of the grace time, what is left for answers to reach their clients.
FLUSH_SECONDS: Final = 1
# Of a store where nothing can be served, so many reasons are told; the log has all.
MOST_NAMED: Final = 20


class Runtime:
    """Loads models in the background, so that the server answers `/healthz` meanwhile; then serves them.

    `on_start` is called on the event loop once loading is over, well or not.
    """

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        metrics: Metrics,
        on_start: Callable[["Runtime"], None] | None = None,
        traces: Traces = NO_TRACES,
    ) -> None:
        self.settings = settings
        self.backend = backend
        self.dispatcher = backend.dispatcher
        self.repository = backend.repository
        self.metrics = metrics
        self.quotas = QuotaBook()
        self.policies = read_policies(settings.policies)
        self.unread = UnreadBytes(settings.max_unread_bytes)
        self._long_bodies = LongBodyReader(self.unread)
        self.predictor = Predictor(
            lambda: self.registry,
            backend.dispatcher,
            metrics,
            settings,
            self.quotas,
            self._long_bodies,
            self.policies,
            traces,
        )
        self.certifier = Certifier(
            lambda: self.registry, backend.dispatcher, metrics, settings, self.quotas, self.policies, traces
        )
        self.problem: str | None = "models are being loaded"
        self._registry = ModelRegistry({}, ())
        self._traces = traces
        self._on_start = on_start
        self._loading: asyncio.Task[None] | None = None
        self._given_up = False
        self._refreshing: set[asyncio.Task[None]] = set()
        self.repository.watch(self._take_up, metrics.forget)

    @property
    def unready(self) -> str | None:
        """Why requests cannot be accepted now; None: they can."""
        return "draining: the server is about to end" if self.dispatcher.draining else self.problem

    @property
    def loading(self) -> bool:
        """Models were being loaded until now, or until it was closed."""
        return self._loading is not None and (not self._loading.done() or self._loading.cancelled())

    @property
    def registry(self) -> ModelRegistry:
        """What is served.

        Raises:
            NotReadyError: nothing is, yet.
        """
        if self.problem is not None:
            raise NotReadyError(f"not ready: {self.problem}")
        return self._registry

    def start(self) -> None:
        """Start the dispatcher and begin to load."""
        self.dispatcher.start()
        if not self._given_up:
            self._loading = asyncio.create_task(self._load(), name="load models")

    def give_up(self, problem: str) -> None:
        """Serve nothing, and let `start` load nothing: what is wrong cannot be mended while the server runs."""
        self._given_up = True
        self.problem = problem
        if self._on_start is not None:
            self._on_start(self)

    def refresh_soon(self) -> None:
        """Begin to take up what has changed in the store, as SIGHUP asks for. To be called on the event loop."""
        self._spawn(self._refresh())

    async def drain(self) -> None:
        """Refuse what comes from now on; return when all that was accepted is over, at most the grace time later."""
        await self.dispatcher.drain(max(0, self.settings.grace_seconds - FLUSH_SECONDS))

    async def close(self) -> None:
        """Give up what is still being loaded, and end the dispatcher."""
        self._long_bodies.close()
        tasks = [*self._refreshing, *([] if self._loading is None else [self._loading])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.repository.close()
        await self.dispatcher.close()
        await asyncio.to_thread(self._traces.close)

    def abandon(self) -> None:
        """End what would outlive this process. To be called from any thread, just before the end."""
        self._long_bodies.close()

    def summary(self) -> str:
        """What is served and how, in one line."""
        refused = [refusal.name for refusal in self._registry.refusals]
        parts = [self._registry.summary(), self.backend.description]
        return " | ".join(parts + ([f"refused: {', '.join(refused)}"] if refused else []))

    async def _load(self) -> None:
        try:
            self._take_up(await self.backend.load())
            self.problem = self._misdirected() if self._registry.models else self._nothing_served()
        except NoSuchModelError as error:
            self.problem = str(error)
        except Exception as error:  # whatever it is, the server must say that it serves nothing
            logger.exception("loading failed")
            self.problem = f"loading failed: {type(error).__name__}: {error}"
        if self._on_start is not None:
            self._on_start(self)
        if self.settings.poll_models is not None and self.problem is None:
            self._spawn(self._poll(self.settings.poll_models))

    def _take_up(self, registry: ModelRegistry) -> None:
        """Serve this from now on."""
        before, self._registry = self._registry.summary(), registry
        self.metrics.declare(registry.sessions(), len(registry.refusals), registry.certifying())
        if not self.loading and (now := registry.summary()) != before:
            logger.info("models: %s", now or "none")

    def _spawn(self, refreshing: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(refreshing, name="refresh models")
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)

    async def _poll(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._refresh()

    async def _refresh(self) -> None:
        try:
            await self.repository.refresh()
        except Exception:  # whatever it is, what is served goes on being served
            logger.exception("refreshing the models failed")

    def _misdirected(self) -> str | None:
        """A policy of a model that is not served: misspelt, it would leave the one that is meant without any."""
        unknown = sorted(set(self.policies.by_model) - set(self._registry.models))
        served = ", ".join(self._registry.models)
        return f"policies: {', '.join(unknown)} is not served; served are {served}" if unknown else None

    def _nothing_served(self) -> str:
        remarks = (*self._registry.refusals, *self._registry.ignored)
        named = "; ".join(f"{remark.name}: {remark.reason}" for remark in remarks[:MOST_NAMED])
        more = f"; and {len(remarks) - MOST_NAMED} more" if len(remarks) > MOST_NAMED else ""
        return f"no model in {self.settings.model_store} can be served{named and f' ({named}{more})'}"


def runtime_of(request: Request) -> Runtime:
    """The application's `Runtime`."""
    return cast("Runtime", request.app.state.runtime)
