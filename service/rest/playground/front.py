"""`GET /` and `/playground/…`: a page on which people draw a digit and watch a noisy network vote.

It is plain HTML, CSS and ES modules without a build step. It asks nothing but the public API of the server that it came
from; keys are asked for there, so the page itself needs none.
"""

from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from noisevote.service.rest.playground.files import PageFile, page_files
from noisevote.service.runtime import runtime_of

router = APIRouter(include_in_schema=False)
INDEX: Final = "index.html"
# Scripts, styles and answers of this server alone, nothing inline; pictures that a person drops are blobs.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


@router.get("/")
async def index(request: Request) -> Response:
    """The page. Those whose pages may ask this server may also show it in a frame, as slides of a lecture do."""
    framing = " ".join((POLICY, *runtime_of(request).settings.allowed_origins))
    return _sent(request, page_files()[INDEX], {"content-security-policy": framing})


@router.get("/playground/{path:path}")
async def page_file(request: Request, path: str) -> Response:
    """What the page consists of."""
    file = page_files().get(path)
    if file is None or path == INDEX:  # which is served as `/`, where its relative links lead somewhere
        raise HTTPException(404)
    return _sent(request, file, {})


def _sent(request: Request, file: PageFile, headers: dict[str, str]) -> Response:
    """The file, or 304 where the browser has it. It asks each time, so a new version of the server shows at once."""
    headers |= {"etag": file.etag, "cache-control": "no-cache"}
    held = request.headers.get("if-none-match", "")
    if held == "*" or file.etag in {tag.strip().removeprefix("W/") for tag in held.split(",")}:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers={**headers, "content-type": file.media_type})
