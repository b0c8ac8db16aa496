"""The service on Ray Serve: the same application, with replicas that compute and an ingress that spreads requests.

    serve run deploy.ray_serve:app min_replicas=2 max_replicas=4

docs/deploy.md says how to start the nodes. Settings of the service are read from the environment of this command,
those of the scale-out are its arguments (`ScaleOut`).
"""

import asyncio
import logging
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, cast

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, BackpressureConfig
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deploy.cores import claim, keep_to
from deploy.options import ScaleOut
from deploy.scaling import METRIC, QueuedRows
from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.engine.session_key import SessionKey
from noisevote.noise_op.library import load_kernel
from noisevote.service.app import app_of
from noisevote.service.backends.local import LocalBackend
from noisevote.service.backends.replica import count, hold
from noisevote.service.backends.replicated import ReplicaLostError, ReplicatedBackend
from noisevote.service.backends.replicated_repository import Change
from noisevote.service.errors import ServiceError
from noisevote.service.metrics import Metrics
from noisevote.service.models.registry import ModelRegistry
from noisevote.service.models.repository import VersionEntry
from noisevote.service.rest.access import access_behind
from noisevote.service.runtime import Runtime
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import CountedVotes
from noisevote.service.settings import Settings, read_settings

logger = logging.getLogger(__name__)

# How many signs of life a replica gives before its silence counts.
BEATS: Final = 5
# Parts that a replica may hold; its queue is bounded by rows and bytes, and this must not be what bounds it.
MOST_PARTS: Final = 100_000
CORE_LOCKS: Final = Path(tempfile.gettempdir()) / "noisevote-cores"
# Ray gives the head node a resource of this name. The head's end is the cluster's anyway, so an ingress there is
# not lost with any other node.
HEAD: Final = {"node:__internal_head__": 0.001}


class Voter:
    """A replica: loads the models and computes votes, of whole requests or of parts."""

    async def __init__(self, settings: Settings, options: ScaleOut) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        """Ready once it returns.

        Raises:
            RuntimeError: nothing of the store can be served.
        """
        if options.pinned:
            self._claim = claim(options.cpus, sorted(os.sched_getaffinity(0)), CORE_LOCKS)
            keep_to(self._claim.cores)
        self._beat_s = options.silence_s / BEATS
        self._backend = LocalBackend(settings, OnnxEngine(load_kernel()), Metrics(), keeps=True)
        self._backend.dispatcher.start()
        registry = await self._backend.load()
        if not registry.models:
            raise RuntimeError(f"model_store: nothing in {settings.model_store} can be served")

    async def registry(self) -> ModelRegistry:
        """What it serves."""
        return self._backend.repository.registry

    async def index(self) -> tuple[VersionEntry, ...]:
        """See `Repository.index`."""
        return await self._backend.repository.index()

    async def change(self, change: Change) -> ModelRegistry | ServiceError:
        """What it serves after a change; see `Control.change`. Errors are answers, as of `count`."""
        try:
            return await change.at(self._backend.repository)
        except ServiceError as error:
            return error

    async def keep(self, sessions: list[SessionKey]) -> None:
        """See `Control.keep`."""
        self._backend.repository.keep(sessions)

    async def count(
        self, request: VoteRequest, deadline_ms: float | None
    ) -> AsyncIterator[CountedVotes | ServiceError | None]:
        """See `service.replica.count`. Its errors are answers here: Ray would log each as a failure of the replica."""
        try:
            _held = await hold(self._backend.repository, request.session)  # until this generator ends
            async with aclosing(count(self._backend.dispatcher, request, deadline_ms, self._beat_s)) as answers:
                async for answer in answers:
                    yield answer
        except ServiceError as error:
            yield error

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Ray Serve asks for it now and then, for the scaling policy."""
        return {METRIC: self._backend.dispatcher.load().rows}


class Ask:
    """Asks replicas through Ray Serve, which picks one that is alive and has few parts under way."""

    def __init__(self, voters: DeploymentHandle) -> None:
        self._streaming = voters.options(stream=True)

    async def __call__(self, request: VoteRequest, deadline_ms: float | None) -> AsyncGenerator[CountedVotes | None]:
        """See `service.spreading.Ask`."""
        response = self._streaming.count.remote(request, deadline_ms)
        try:
            async for item in response:
                if isinstance(item, ServiceError):
                    raise item
                yield item
        except (GeneratorExit, asyncio.CancelledError):
            response.cancel()
            raise
        except RayTaskError:
            raise  # a defect in a replica's code, which another would have too
        except (RayError, RayServeException) as error:
            raise ReplicaLostError(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error


class Control:
    """Tells replicas what is done to the models; see `replicated_repository.Control`."""

    def __init__(self, voters: DeploymentHandle) -> None:
        self._voters = voters

    async def registry(self) -> ModelRegistry:
        """From any replica that lives long enough to say what it serves."""
        return cast("ModelRegistry", await self._ask("registry"))

    async def index(self) -> tuple[VersionEntry, ...]:
        """From any replica, as well."""
        return cast("tuple[VersionEntry, ...]", await self._ask("index"))

    async def change(self, change: Change) -> ModelRegistry:
        """Tell all replicas; one that is lost meanwhile loads at its next start."""
        answers = await self._voters.broadcast("change", change).results_async(return_exceptions=True)
        for answer in answers:
            if isinstance(answer, ServiceError):
                raise answer
        registries = [answer for answer in answers if isinstance(answer, ModelRegistry)]
        return registries[0] if registries else await self.registry()

    async def keep(self, sessions: list[SessionKey]) -> None:
        """Tell all replicas."""
        await self._voters.broadcast("keep", sessions).results_async(return_exceptions=True)

    async def _ask(self, method: str) -> object:
        while True:
            try:
                return await getattr(self._voters, method).remote()
            except RayTaskError:
                raise
            except (RayError, RayServeException) as error:
                logger.warning("asking again for the %s: %s", method, error)
                await asyncio.sleep(1)


@serve.ingress()
class Ingress:
    """Reads requests, spreads them over replicas and answers: the application, without an engine."""

    def __init__(self, voters: DeploymentHandle, settings: Settings, options: ScaleOut) -> None:
        self._settings = settings
        self._voters = voters
        self._backend = ReplicatedBackend(settings, options.spreading, Ask(voters), Control(voters))

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """Ray Serve starts and ends it, and hands it the requests."""
        return app_of(Runtime(self._settings, self._backend, Metrics()), access_behind(self._settings))


def app(options: ScaleOut) -> Any:
    """The Ray Serve application of the environment's settings.

    Raises:
        SettingsError: a setting is unknown, or has a value that cannot be used; or there are no keys, since only Ray
            Serve's proxies know who can reach them, and `insecure` is not set.
    """
    settings = read_settings().model_copy(update={"threads": options.cpus})
    access_behind(settings)  # here, where its error is seen
    voters = _voters(settings, options).bind(settings, options)
    return _ingress(settings, options).bind(voters, settings, options)


def _voters(settings: Settings, options: ScaleOut) -> Any:
    scaling = AutoscalingConfig(
        min_replicas=options.min_replicas,
        max_replicas=options.max_replicas,
        upscale_delay_s=options.upscale_delay_s,
        downscale_delay_s=options.downscale_delay_s,
        policy=AutoscalingPolicy(
            policy_function=f"{QueuedRows.__module__}:{QueuedRows.__name__}",
            policy_kwargs={"rows_per_replica": options.rows_per_replica},
        ),
    )
    return serve.deployment(
        Voter,
        autoscaling_config=scaling,
        max_ongoing_requests=MOST_PARTS,
        graceful_shutdown_timeout_s=settings.grace_seconds,
        ray_actor_options={"num_cpus": options.cpus},
    )


def _ingress(settings: Settings, options: ScaleOut) -> Any:
    return serve.deployment(
        Ingress,
        num_replicas=1,
        max_ongoing_requests=options.most_requests,
        max_queued_requests=options.most_waiting,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        graceful_shutdown_timeout_s=settings.grace_seconds,
        ray_actor_options={"num_cpus": 0, "resources": HEAD if options.ingress_on_head else {}},
    )
