"""`GET /docs`: the description of the API as a page. Everything that it asks for is relative, so it works anywhere."""

import base64
import hashlib
import re
from typing import Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

from noisevote.service.rest.response_headers import PAGE_POLICY

router = APIRouter()
index_router = APIRouter()
# Of a package that has nothing else, so that the page needs no internet access.
SWAGGER_FILES: Final = StaticFiles(packages=[("fastapi_offline", "static")])


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Swagger's page, from files of this server alone."""
    app: FastAPI = request.app
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url="static-offline-docs/swagger-ui-bundle.js",
        swagger_css_url="static-offline-docs/swagger-ui.css",
        swagger_favicon_url="static-offline-docs/favicon.png",
    )
    page.headers["content-security-policy"] = page_policy(bytes(page.body))
    return page


@router.get("/static-offline-docs/{name}", include_in_schema=False)
async def swagger_file(request: Request, name: str) -> Response:
    """Swagger's script, style and picture."""
    return await SWAGGER_FILES.get_response(name, request.scope)


@index_router.get("/", include_in_schema=False)
async def index() -> RedirectResponse:
    """The documentation, where there is no playground."""
    return RedirectResponse("docs")  # relative, so that it works under any prefix


def page_policy(page: bytes) -> str:
    """The policy of a page whose own scripts are told by their hashes; Swagger sets styles at its elements."""
    scripts = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(each).digest()).decode()}'" for each in scripts)
    return f"{PAGE_POLICY}; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'"
