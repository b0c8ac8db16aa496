"""Wiring: settings, engine, backend, routes and error answers make the application."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware

from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.engine.trial_process import TrialProcess
from noisevote.noise_op.library import load_kernel
from noisevote.service.backends.local import LocalBackend
from noisevote.service.grpc.beside import grpc_beside, refuse_without_grpc
from noisevote.service.metrics import Metrics
from noisevote.service.rest import docs_page, health, openapi
from noisevote.service.rest.access import Access, access_behind
from noisevote.service.rest.admission import Admission
from noisevote.service.rest.edge import Edge, Gate
from noisevote.service.rest.ending import AnsweredAtTheEnd
from noisevote.service.rest.error_responses import answer_errors
from noisevote.service.rest.methods import Methods
from noisevote.service.rest.playground import front as playground
from noisevote.service.rest.shortcuts import Shortcuts
from noisevote.service.rest.v1 import front as v1
from noisevote.service.rest.v2 import front as v2
from noisevote.service.rest.v2.parse import HEADER_LENGTH
from noisevote.service.runtime import Runtime
from noisevote.service.scheduling.engine import Engine
from noisevote.service.settings import Settings, SettingsError, read_settings
from noisevote.service.traces import NO_TRACES

if TYPE_CHECKING:
    from noisevote.service.telemetry import OpenTelemetry  # of an extra

DESCRIPTION = """Serves classifiers whose computation is noisy: every input runs several times with independent
noise, and the runs vote. Every answer carries its seed, so it can be repeated to the vote."""
# The framework's own, which asks at each request whether it is wanted; what this service tells is in telemetry.py.
NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}


def create_app(
    settings: Settings | None = None,
    engine: Engine | None = None,
    on_start: Callable[[Runtime], None] | None = None,
    access: Access | None = None,
    ahead: TrialProcess | None = None,
) -> FastAPI:
    """The application of one process.

    Args:
        settings: default: read from the environment.
        engine: default: ONNX Runtime on the native kernel where it was built.
        on_start: called once models are loaded, or could not be (`Runtime.problem` then says why).
        access: who may come in; default: whoever has a configured key.
        ahead: what was started to try files, for the default engine.

    Raises:
        SettingsError: no access is given, and neither keys nor `insecure` are set; or gRPC or traces are wanted, and
            what they need is not installed.
    """
    settings = settings or read_settings()
    engine = engine or OnnxEngine(load_kernel(), ahead)
    metrics = Metrics()
    metrics.describe(version("noisevote"), engine.description)
    if settings.triton_metrics:
        metrics.add_triton_names()
    telemetry = _telemetry() if settings.traces else None
    traces = telemetry or NO_TRACES
    backend = LocalBackend(settings, engine, metrics, traces)
    app = app_of(Runtime(settings, backend, metrics, on_start, traces), access)
    if telemetry is not None:
        telemetry.trace(app)
    return app


def _telemetry() -> "OpenTelemetry":
    """What sends traces.

    Raises:
        SettingsError: the extra is not installed.
    """
    try:
        from noisevote.service.telemetry import OpenTelemetry  # noqa: PLC0415  # of an extra
    except ModuleNotFoundError as error:
        problem = f'traces: package {error.name} is not installed; pip install "noisevote[otel]"'
        raise SettingsError(problem) from error
    return OpenTelemetry()


def app_of(runtime: Runtime, access: Access | None = None) -> FastAPI:
    """The application on any backend; `runtime` starts and ends with it. See `create_app` for access and errors."""
    access = access or access_behind(runtime.settings)
    refuse_without_grpc(runtime.settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with grpc_beside(runtime, access):
            runtime.start()
            yield
        await runtime.close()

    app = FastAPI(
        title="noisevote",
        version=version("noisevote"),
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # here and below are routes of our own
        docs_url=None,
        redoc_url=None,
        telemetry=NO_TELEMETRY,
    )
    app.state.runtime = runtime
    app.state.access = access
    index = playground.router if runtime.settings.playground else docs_page.index_router
    for router in (*v1.ROUTERS, *v2.ROUTERS, health.router, openapi.router, docs_page.router, index):
        app.include_router(router)
    _add_middleware(app, runtime, access)
    answer_errors(app)
    app.state.description = openapi.Description(app, (*v1.BODIES, *v2.BODIES))
    app.openapi = app.state.description.made  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def _add_middleware(app: FastAPI, runtime: Runtime, access: Access) -> None:
    """What a request passes on its way to its route; the last one added comes first."""
    settings = runtime.settings
    app.add_middleware(Shortcuts, routes=(*v1.FREQUENT, *v2.FREQUENT, *health.FREQUENT))
    app.add_middleware(Admission, runtime=runtime, routes=(v1.VOTE_ROUTE, v2.VOTE_ROUTE))
    app.add_middleware(AnsweredAtTheEnd)
    app.add_middleware(Methods, routes=app.router.routes)
    refused = runtime.metrics.refuse
    app.add_middleware(
        Gate, access=access, count=lambda visit: runtime.quotas.count_request(visit.caller), refused=refused
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["authorization", "content-type", HEADER_LENGTH, "traceparent", "x-api-key", "x-request-id"],
            expose_headers=["retry-after", HEADER_LENGTH, "x-request-id", "traceparent"],
        )
    logged = access.logged(settings)
    app.add_middleware(Edge, access=access, root_path=settings.root_path, logged=logged, refused=refused)
