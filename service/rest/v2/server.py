"""`GET /v2`, `/v2/health/live` and `/v2/health/ready`: the server itself."""

from importlib.metadata import version
from typing import Final

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from noisevote.service.open_inference.description import server_metadata
from noisevote.service.rest.v2.schemas import Live, Ready, ServerMetadata, UnreadyResponse
from noisevote.service.runtime import runtime_of

router = APIRouter(tags=["open inference protocol"])


@router.get("/v2", response_class=Response, responses={200: {"model": ServerMetadata}})
async def metadata() -> Response:
    """The server's name and version, and which extensions of the protocol it has."""
    return Response(orjson.dumps(server_metadata(version("noisevote"))), media_type="application/json")


@router.get("/v2/health/live", responses={200: {"model": Live}})
async def live(_: Request) -> JSONResponse:
    """200 as long as the event loop turns."""
    return JSONResponse({"live": True})


@router.get(
    "/v2/health/ready", responses={200: {"model": Ready}, 503: {"model": UnreadyResponse, "description": "Not now."}}
)
async def ready(request: Request) -> JSONResponse:
    """200 once requests can be answered."""
    if runtime_of(request).unready is not None:
        return JSONResponse({"ready": False, "error": "not ready; /readyz says why"}, 503)
    return JSONResponse({"ready": True})


# Monitors ask often, and many may ask at once.
FREQUENT: Final = tuple(route for route in router.routes if isinstance(route, APIRoute) and "health" in route.path)
