"""How the routes of `/v1` are described where FastAPI does not see what they read and answer."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from noisevote.service.rest.v1.error_schemas import ErrorResponse

ALWAYS: Final = {500: "A defect of the server; its log says more."}


def refusals(reasons: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Answers that are no success, by status: JSON, whatever a success is."""
    content = {"application/json": {"schema": _reference(ErrorResponse)}}
    described: dict[int | str, dict[str, Any]] = {
        307: {"description": "A slash too many or too few at the end of the path; Location is without the fault."}
    }
    for status, reason in {**reasons, **ALWAYS}.items():
        described[status] = {"description": reason, "content": content}
    return described


def reads(body: type[BaseModel]) -> dict[str, Any]:
    """A JSON body that a route reads itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _reference(body)}}}}


def _reference(body: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{body.__name__}"}
