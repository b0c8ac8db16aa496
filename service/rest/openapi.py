"""The description of the API at /openapi.json."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI
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


def describe_bodies(app: FastAPI, bodies: Sequence[type[BaseModel]]) -> None:
    """Add the request bodies that routes read themselves to what FastAPI describes."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, definitions = models_json_schema(
                [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
            )
            schema["components"]["schemas"] |= definitions["$defs"]
            _forget_fastapis_refusals(schema)
            _describe_access(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


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
