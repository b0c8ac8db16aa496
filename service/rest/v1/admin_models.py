"""`/v1/admin/models…` and `/v1/admin/refresh`: what is in memory, and what is served, changed while the server runs."""

from dataclasses import asdict
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from noisevote.service.errors import InvalidValueError, NotReadyError
from noisevote.service.models.repository import Repository, State, VersionEntry
from noisevote.service.rest.v1.documented import refusals
from noisevote.service.runtime import runtime_of
from noisevote.service.validation import Body

router = APIRouter(tags=["admin"])


class VersionStatus(Body):
    """A version that is in the store or served, and how it stands."""

    name: str
    version: str
    state: State
    """`unavailable`: in the store, and not served"""
    reason: str
    """why it is not served, or why the last attempt to load it failed while the former files go on serving"""
    serving: bool
    """requests are answered now"""
    variants: list[str]
    """served variants"""
    resident: list[str]
    """those that are in memory; others are loaded when they are first asked for"""
    refused: dict[str, str]
    """variants that are refused, and why"""


class ModelIndex(Body):
    """Versions by name, oldest first."""

    models: list[VersionStatus]


NOT_READY: Final = {503: "The models that are served from the start are being loaded."}
SENT: Final = {422: "A body was sent."}
INDEX: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {200: {"model": ModelIndex}, **refusals(NOT_READY)},
}
REFRESH: Final[dict[str, Any]] = INDEX | {"responses": {200: {"model": ModelIndex}, **refusals(SENT | NOT_READY)}}
CHANGE: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: {"model": ModelIndex, "description": "How what was named stands now."},
        **refusals(
            {
                404: "No such model or version in the store.",
                422: "Broken, by name (`refused_model`), and whatever served goes on serving; or a body was sent.",
            }
            | NOT_READY
        ),
    },
}
_MODEL: Final = "/v1/admin/models/{name}"
_VERSION: Final = "/v1/admin/models/{name}/versions/{version}"
ROUTES: Final = frozenset(
    {
        ("GET", "/v1/admin/models"),
        ("POST", "/v1/admin/refresh"),
        *(("POST", f"{path}/{what}") for path in (_MODEL, _VERSION) for what in ("load", "unload")),
    }
)


@router.get("/v1/admin/models", **INDEX)
async def index(request: Request) -> Response:
    """Every version in the store, served or not."""
    return _answer(await _repository(request).index())


@router.post("/v1/admin/refresh", **REFRESH)
async def refresh(request: Request) -> Response:
    """Take up what is new, changed or gone in the store, as SIGHUP does."""
    _refuse_body(request)
    return _answer(await _repository(request).refresh())


@router.post(f"{_MODEL}/load", **CHANGE)
async def load(request: Request, name: str) -> Response:
    """Serve a model as it now is in the store; requests under way end on what they began with."""
    _refuse_body(request)
    return _answer(await _repository(request).load(name))


@router.post(f"{_VERSION}/load", **CHANGE)
async def load_version(request: Request, name: str, version: str) -> Response:
    """The same for one version."""
    _refuse_body(request)
    return _answer(await _repository(request).load(name, version))


@router.post(f"{_MODEL}/unload", **CHANGE)
async def unload(request: Request, name: str) -> Response:
    """Serve a model no longer, until it is loaded again; requests under way are answered."""
    _refuse_body(request)
    return _answer(await _repository(request).unload(name))


@router.post(f"{_VERSION}/unload", **CHANGE)
async def unload_version(request: Request, name: str, version: str) -> Response:
    """The same for one version."""
    _refuse_body(request)
    return _answer(await _repository(request).unload(name, version))


def _repository(request: Request) -> Repository:
    runtime = runtime_of(request)
    if runtime.loading:
        raise NotReadyError("not ready: models are being loaded")
    return runtime.repository


def _refuse_body(request: Request) -> None:
    """Files come from the store alone; whoever sends one, or options, would believe that it counts."""
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        raise InvalidValueError("body", "is sent; this takes none, and models come from the server's store alone")


def _answer(entries: tuple[VersionEntry, ...]) -> Response:
    models = [asdict(entry) | {"refused": dict(entry.refused)} for entry in entries]
    return Response(orjson.dumps({"models": models}), media_type="application/json")
