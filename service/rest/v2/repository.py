"""`POST /v2/repository/…`: which models there are, and loading and unloading them. Needs an admin's key."""

from typing import Any, Final, TypeVar

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from noisevote.service.errors import ForbiddenError
from noisevote.service.models.repository import VersionEntry
from noisevote.service.rest.body import PACKED, read_body
from noisevote.service.rest.json_body import JsonLimits, parse_object, read_content
from noisevote.service.rest.v2.documented import reads, refusals
from noisevote.service.rest.v2.schemas import IndexEntry, IndexRequest, LoadRequest, UnloadRequest
from noisevote.service.runtime import runtime_of
from noisevote.service.validation import RequestBody, shown

router = APIRouter(tags=["open inference protocol"])
# What would serve something else than what is published.
UPLOADS: Final = ("config", "file:")
REFUSALS: Final = refusals(
    {
        400: "Not JSON, or not what its encoding says.",
        403: "Not for this key; or an upload, which `config` and `file:…` are.",
        404: "The store has no such model.",
        413: "Body over the limit.",
        415: "Encoded otherwise than by gzip or deflate.",
        422: "A key or value that cannot be used, or a model that is broken; the message names it.",
    }
)
Kind = TypeVar("Kind", bound=RequestBody)


def documented(body: type[BaseModel], answer: Any) -> dict[str, Any]:
    """How such a route is described."""
    described = {"model": answer} if answer is not None else {"description": "Done."}
    return {
        "response_class": Response,
        "responses": {200: described, **REFUSALS},
        "openapi_extra": reads(body, required=False),
    }


@router.post("/v2/repository/index", **documented(IndexRequest, list[IndexEntry]))
async def index(request: Request) -> Response:
    """Every version that is in the store or served, and how it stands."""
    asked = await _read(request, IndexRequest)
    entries = await runtime_of(request).repository.index()
    shown_entries = [_entry(each) for each in entries if each.serving or not asked.ready]
    return Response(orjson.dumps(shown_entries), media_type="application/json")


@router.post("/v2/repository/models/{name}/load", **documented(LoadRequest, None))
async def load(request: Request, name: str) -> Response:
    """Serve a model as it now is in the store. Requests that were accepted are answered by what was served before."""
    await _read(request, LoadRequest)
    await runtime_of(request).repository.load(name)
    return Response()


@router.post("/v2/repository/models/{name}/unload", **documented(UnloadRequest, None))
async def unload(request: Request, name: str) -> Response:
    """Serve a model no longer, until it is loaded again."""
    await _read(request, UnloadRequest)
    await runtime_of(request).repository.unload(name)
    return Response()


async def _read(request: Request, kind: type[Kind]) -> Kind:
    """The body, which may be empty.

    Raises:
        ForbiddenError: it would upload a model.
        ServiceError: it cannot be used.
    """
    settings = runtime_of(request).settings
    body = await read_body(request, settings.max_body_bytes, PACKED)
    content = parse_object(body, JsonLimits.of(settings)) if body else {}
    parameters = content.get("parameters")
    for key in parameters if isinstance(parameters, dict) else ():
        if key.startswith(UPLOADS):
            raise ForbiddenError(f"parameters.{shown(key)[1:-1]}: models are published to the store, never uploaded")
    return read_content(kind, content)


def _entry(entry: VersionEntry) -> dict[str, Any]:
    return {"name": entry.name, "version": entry.version, "state": entry.state.upper(), "reason": entry.reason}
