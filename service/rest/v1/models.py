"""`GET /v1/models…`: what is served."""

from typing import Final

import orjson
from fastapi import APIRouter, Request, Response

from noisevote.service.models.registry import ModelRegistry
from noisevote.service.prediction.policy import Policies
from noisevote.service.rest.v1.documented import refusals
from noisevote.service.rest.v1.model_schemas import Batch, ModelDescription, ModelList
from noisevote.service.runtime import runtime_of

router = APIRouter(tags=["models"])
NOT_READY: Final = {503: "No model is loaded yet, or none could be."}
UNKNOWN: Final = refusals({404: "Unknown model or version."} | NOT_READY)


@router.get("/v1/models", response_class=Response, responses={200: {"model": ModelList}, **refusals(NOT_READY)})
async def list_models(request: Request) -> Response:
    """The newest served version of every model."""
    registry = runtime_of(request).registry
    policies = runtime_of(request).policies
    models = [describe(registry, policies, name) for name in registry.models]
    return _json(ModelList(models=models))


@router.get("/v1/models/{name}", response_class=Response, responses={200: {"model": ModelDescription}, **UNKNOWN})
async def show_model(request: Request, name: str) -> Response:
    """The newest served version of a model: its manifest with all measured accuracies."""
    return _json(describe(runtime_of(request).registry, runtime_of(request).policies, name))


@router.get(
    "/v1/models/{name}/versions/{version}",
    response_class=Response,
    responses={200: {"model": ModelDescription}, **UNKNOWN},
)
async def show_version(request: Request, name: str, version: str) -> Response:
    """A chosen version of a model."""
    return _json(describe(runtime_of(request).registry, runtime_of(request).policies, name, version))


def describe(registry: ModelRegistry, policies: Policies, name: str, version: str | None = None) -> ModelDescription:
    """A served version; see `Catalogue.version` for errors."""
    served, policy = registry.version(name, version), policies.of(name)
    return ModelDescription(
        name=name,
        version=served.manifest.version,
        versions=registry.versions(name),
        variants=[variant.name for variant in served.variants],
        refused=dict(served.refused),
        policy=None if policy is None else policy.model_dump(mode="json", exclude_none=True),
        batches={key.variant: Batch(rows=pace.rows, bytes=pace.bytes) for key, pace in served.profiles.items()},
        manifest=served.manifest,
    )


def _json(answer: ModelList | ModelDescription) -> Response:
    return Response(orjson.dumps(answer.model_dump(mode="json")), media_type="application/json")
