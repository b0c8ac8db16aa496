"""`/healthz`: the process runs. `/readyz`: requests are accepted. `/metrics`: what happened so far."""

import asyncio
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute

from noisevote.service.runtime import runtime_of

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz(_: Request) -> JSONResponse:
    """200 as long as the event loop turns."""
    return JSONResponse({"status": "alive"})


@router.get(
    "/readyz", responses={503: {"description": "Models are being loaded, none can be, or the server is about to end."}}
)
async def readyz(request: Request) -> JSONResponse:
    """200 once requests can be answered."""
    runtime = runtime_of(request)
    reason = runtime.unready
    if reason is not None:
        if request.app.state.access.keyed and not runtime.dispatcher.draining:
            reason = "the server's log says why"  # a reason may name models, and whoever asks may have no key
        return JSONResponse({"status": "not ready", "reason": reason}, 503)
    return JSONResponse({"status": "ready"})


# Monitors ask often, and many may ask at once.
FREQUENT: Final = tuple(route for route in router.routes if isinstance(route, APIRoute))


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Prometheus's text format, or OpenMetrics for those who accept it."""
    runtime = runtime_of(request)
    runtime.metrics.show(runtime.dispatcher.load(), ready=runtime.unready is None)
    accept = request.headers.get("accept", "")
    content, content_type = await asyncio.to_thread(runtime.metrics.exposition, accept)
    return Response(content, headers={"content-type": content_type})
