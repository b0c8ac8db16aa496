"""`GET /v2/models/…`: what is served, whether it is ready, how it is configured, and what became of its requests."""

from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from noisevote.service.models.registry import ModelRegistry
from noisevote.service.open_inference.description import model_config, model_metadata, model_statistics
from noisevote.service.rest.v2.documented import refusals
from noisevote.service.rest.v2.schemas import ModelMetadata, ModelReady, StatisticsResponse
from noisevote.service.runtime import Runtime, runtime_of

router = APIRouter(tags=["open inference protocol"])
NOT_READY: Final = {503: "No model is loaded yet, or none could be."}
REFUSALS: Final = refusals({404: "Unknown model or version."} | NOT_READY)


def documented(model: Any, refused: dict[int | str, dict[str, Any]] = REFUSALS) -> dict[str, Any]:
    """How such a route is described."""
    return {"response_class": Response, "responses": {200: {"model": model}, **refused}}


@router.get("/v2/models/stats", **documented(StatisticsResponse, refusals(NOT_READY)))
async def statistics_of_all(request: Request) -> Response:
    """What became of the requests for every served version."""
    runtime = runtime_of(request)
    return _statistics(
        runtime, [(name, version) for name in runtime.registry.models for version in _all(runtime, name)]
    )


@router.get("/v2/models/{name}/stats", **documented(StatisticsResponse))
async def statistics_of_model(request: Request, name: str) -> Response:
    """The same for the served versions of a model."""
    runtime = runtime_of(request)
    return _statistics(runtime, [(name, version) for version in _all(runtime, name)])


@router.get("/v2/models/{name}/versions/{version}/stats", **documented(StatisticsResponse))
async def statistics_of_version(request: Request, name: str, version: str) -> Response:
    """The same for one version."""
    return _statistics(runtime_of(request), [(name, version)])


@router.get("/v2/models/{name}", **documented(ModelMetadata))
async def metadata(request: Request, name: str) -> Response:
    """The tensors of a model's newest version."""
    return _metadata(runtime_of(request).registry, name, None)


@router.get("/v2/models/{name}/versions/{version}", **documented(ModelMetadata))
async def metadata_of_version(request: Request, name: str, version: str) -> Response:
    """The tensors of a version."""
    return _metadata(runtime_of(request).registry, name, version)


@router.get("/v2/models/{name}/ready", **documented(ModelReady))
async def ready(request: Request, name: str) -> Response:
    """200 where the newest version answers requests."""
    return _ready(runtime_of(request), name, None)


@router.get("/v2/models/{name}/versions/{version}/ready", **documented(ModelReady))
async def version_ready(request: Request, name: str, version: str) -> Response:
    """200 where the version answers requests."""
    return _ready(runtime_of(request), name, version)


@router.get("/v2/models/{name}/config", **documented(dict[str, Any]))
async def config(request: Request, name: str) -> Response:
    """The newest version in the form of Triton's configuration."""
    return _config(runtime_of(request), name, None)


@router.get("/v2/models/{name}/versions/{version}/config", **documented(dict[str, Any]))
async def config_of_version(request: Request, name: str, version: str) -> Response:
    """A version in the form of Triton's configuration."""
    return _config(runtime_of(request), name, version)


def _all(runtime: Runtime, name: str) -> list[str]:
    return runtime.registry.versions(name)


def _statistics(runtime: Runtime, versions: list[tuple[str, str]]) -> Response:
    served = [runtime.registry.version(*each).manifest for each in versions]
    sums = runtime.metrics.statistics
    return _json({"model_stats": [model_statistics(each, sums.of(each.name, each.version)) for each in served]})


def _metadata(registry: ModelRegistry, name: str, version: str | None) -> Response:
    return _json(model_metadata(registry.version(name, version), registry.versions(name)))


def _ready(runtime: Runtime, name: str, version: str | None) -> Response:
    runtime.registry.version(name, version)
    return _json({"name": name, "ready": True})


def _config(runtime: Runtime, name: str, version: str | None) -> Response:
    served = runtime.registry.version(name, version)
    return _json(model_config(served, runtime.settings.max_inputs, runtime.dispatcher.load().workers))


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
