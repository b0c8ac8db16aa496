"""Wiring: settings, engine, routes and error answers make the application."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.noise_op.library import load_kernel
from noisevote.service.backends.local import LocalBackend
from noisevote.service.errors import ServiceError
from noisevote.service.metrics import Metrics
from noisevote.service.rest import health
from noisevote.service.rest.admission import Admission
from noisevote.service.rest.error_responses import error_response, response_of
from noisevote.service.rest.v1 import models, plan, predict, stream
from noisevote.service.rest.v1.plan_schemas import PlanRequest
from noisevote.service.rest.v1.schemas import ImageInput, PredictRequest, RawInput
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
    """The application.

    Args:
        settings: default: read from the environment.
        engine: default: ONNX Runtime on the native kernel where it was built.
        on_start: called once models are loaded, or could not be (`Serving.problem` then says why).
    """
    settings = settings or read_settings()
    engine = engine or OnnxEngine(load_kernel())
    metrics = Metrics()
    metrics.describe(version("noisevote"), engine.description)
    return app_of(Runtime(settings, LocalBackend(settings, engine, metrics), metrics, on_start))


def app_of(runtime: Runtime) -> FastAPI:
    """The application on whatever computes its votes; `serving` starts and ends with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        runtime.start()
        yield
        await runtime.close()

    app = FastAPIOffline(  # FastAPI whose /docs needs no internet access
        title="noisevote", version=version("noisevote"), description=DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    app.state.runtime = runtime
    for router in (predict.router, stream.router, plan.router, models.router, health.router):
        app.include_router(router)
    app.add_middleware(Admission, runtime=runtime)
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_left)
    app.add_exception_handler(Exception, _unexpected_error)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


async def _service_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return response_of(error)


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    code = {404: "unknown_path", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    message = f"{request.method} {request.url.path}: {error.detail}"
    return error_response(error.status_code, code, message, dict(error.headers or {}))


async def _client_left(_: Request, __: Exception) -> Response:
    """Nobody reads this answer."""
    return Response(status_code=400)


async def _unexpected_error(_: Request, error: Exception) -> Response:
    """A defect of ours. The server's log has the traceback."""
    return error_response(500, "internal_error", f"unexpected {type(error).__name__}; the server's log says more")


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description, and the request bodies that the routes read themselves."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _, definitions = models_json_schema(
            [(body, "validation") for body in (PredictRequest, RawInput, ImageInput, PlanRequest)],
            ref_template="#/components/schemas/{model}",
        )
        schema["components"]["schemas"] |= definitions["$defs"]
        app.openapi_schema = schema
    return app.openapi_schema
