"""How the routes of `/v2` are described where FastAPI does not see what they read and answer."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from noisevote.service.rest.v2.schemas import MessageResponse

ALWAYS: Final = {500: "A defect of the server; its log says more."}


def refusals(reasons: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Answers that are no success, by status."""
    described: dict[int | str, dict[str, Any]] = {
        307: {"description": "A slash too many or too few at the end of the path; Location is without the fault."}
    }
    for status, reason in {**reasons, **ALWAYS}.items():
        described[status] = {"model": MessageResponse, "description": reason}
    return described


def reads(body: type[BaseModel], *others: str, required: bool = True) -> dict[str, Any]:
    """A body that a route reads itself, JSON whatever it is announced as, and what else may be sent."""
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    content |= {other: {"schema": {"type": "string", "format": "binary"}} for other in others}
    return {"requestBody": {"required": required, "content": content}}
