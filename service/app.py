"""Wiring: settings, engine, backend, routes and error answers make the application."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.noise_op.library import load_kernel
from noisevote.service.backends.local import LocalBackend
from noisevote.service.metrics import Metrics
from noisevote.service.rest import health, openapi
from noisevote.service.rest.admission import Admission
from noisevote.service.rest.ending import AnsweredAtTheEnd
from noisevote.service.rest.error_responses import answer_errors
from noisevote.service.rest.v1 import front
from noisevote.service.runtime import Runtime
from noisevote.service.scheduling.engine import Engine
from noisevote.service.settings import Settings, read_settings

DESCRIPTION = """Serves classifiers whose computation is noisy: every input runs several times with independent
noise, and the runs vote. Every answer carries its seed, so it can be repeated to the vote."""


def create_app(
    settings: Settings | None = None,
    engine: Engine | None = None,
    on_start: Callable[[Runtime], None] | None = None,
) -> FastAPI:
    """The application of one process.

    Args:
        settings: default: read from the environment.
        engine: default: ONNX Runtime on the native kernel where it was built.
        on_start: called once models are loaded, or could not be (`Runtime.problem` then says why).
    """
    settings = settings or read_settings()
    engine = engine or OnnxEngine(load_kernel())
    metrics = Metrics()
    metrics.describe(version("noisevote"), engine.description)
    return app_of(Runtime(settings, LocalBackend(settings, engine, metrics), metrics, on_start))


def app_of(runtime: Runtime) -> FastAPI:
    """The application on any backend; `runtime` starts and ends with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        runtime.start()
        yield
        await runtime.close()

    app = FastAPIOffline(  # FastAPI whose /docs needs no internet access
        title="noisevote", version=version("noisevote"), description=DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    app.state.runtime = runtime
    for router in (*front.ROUTERS, health.router):
        app.include_router(router)
    app.add_middleware(Admission, runtime=runtime, routes=(front.VOTE_ROUTE,))
    app.add_middleware(AnsweredAtTheEnd)
    answer_errors(app)
    openapi.describe_bodies(app, front.BODIES)
    return app
