"""`/healthz`: the process runs. `/readyz`: models are loaded and warm, and the server is not about to end."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, RedirectResponse

from service.serving import serving_of

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> JSONResponse:
    """200 as long as the event loop turns."""
    return JSONResponse({"status": "alive"})


@router.get(
    "/readyz", responses={503: {"description": "Models are being loaded, none can be, or the server is about to end."}}
)
async def readyz(request: Request) -> JSONResponse:
    """200 once requests can be answered."""
    reason = serving_of(request).unready
    if reason is not None:
        return JSONResponse({"status": "not ready", "reason": reason}, 503)
    return JSONResponse({"status": "ready"})


@router.get("/", include_in_schema=False)
async def index() -> RedirectResponse:
    """The documentation."""
    return RedirectResponse("/docs")
