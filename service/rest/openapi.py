"""`GET /openapi.json`: the description of the API."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final, cast

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from noisevote.service.rest.error_responses import MESSAGE_ALONE
from noisevote.service.rest.openings import opening

# How a key is sent; a server on loopback needs none.
SECURITY_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
REFUSALS: Final = {
    "401": "A key is needed, and none or an unknown one was sent.",
    "403": "Not for this key, page or host.",
    "429": "The key has had its share for now; Retry-After says when to come back.",
}
router = APIRouter()


@router.get("/openapi.json", include_in_schema=False)
async def description(request: Request) -> Response:
    """The description; under a proxy's prefix it says that paths begin with it."""
    written = await cast("Description", request.app.state.description).written()
    if prefix := request.scope.get("root_path", ""):
        written = b'{"servers":' + json.dumps([{"url": prefix}]).encode() + b"," + written[1:]
    return Response(written, media_type="application/json")


class Description:
    """What FastAPI finds in the routes of an application, and what it does not: the bodies that they read themselves.

    Args:
        app: the application with all of its routes.
        bodies: models of those bodies.
    """

    def __init__(self, app: FastAPI, bodies: Sequence[type[BaseModel]]) -> None:
        self._app = app
        self._bodies = bodies
        self._writing: asyncio.Task[bytes] | None = None

    async def written(self) -> bytes:
        """The description as JSON, written once.

        That takes up to a second of a processor and 5 MiB, so the first who asks has it done, on a thread: the event
        loop answers others meanwhile.
        """
        if self._writing is None:
            self._writing = asyncio.create_task(asyncio.to_thread(self._write))
        return await asyncio.shield(self._writing)  # whoever is cancelled cancels it for nobody else

    def made(self) -> dict[str, Any]:
        """The description, made anew."""
        app = self._app
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _, definitions = models_json_schema(
            [(body, "validation") for body in self._bodies], ref_template="#/components/schemas/{model}"
        )
        schema["components"]["schemas"] |= definitions["$defs"]
        _forget_fastapis_refusals(schema)
        _describe_access(schema)
        return schema

    def _write(self) -> bytes:
        return json.dumps(self.made(), separators=(",", ":")).encode()  # by json: the bounds of seeds pass 64 bits


def _forget_fastapis_refusals(schema: dict[str, Any]) -> None:
    """Take out the 422 that FastAPI assumes of every path with a name in it: names are text, which is always read."""
    for path in schema["paths"].values():
        for operation in path.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if "HTTPValidationError" in str(content):
                del operation["responses"]["422"]
    for assumed in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(assumed, None)


def _describe_access(schema: dict[str, Any]) -> None:
    """Say how a key is sent, and what whoever may not come in is told."""
    schema["components"]["securitySchemes"] = SECURITY_SCHEMES
    schema["security"] = [{}, *({name: []} for name in SECURITY_SCHEMES)]
    for path, operations in schema["paths"].items():
        form = "MessageResponse" if MESSAGE_ALONE.match(path) else "ErrorResponse"
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{form}"}}}
        if opening(path) != "health":
            for operation in operations.values():
                for status, description in REFUSALS.items():
                    operation["responses"].setdefault(status, {"description": description, "content": content})
