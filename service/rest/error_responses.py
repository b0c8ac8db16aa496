"""Errors as answers, each with the status of its class.

`{"error": {"code": …, "message": …}}`, and under /v2 `{"error": …}`: the clients of its protocol read no other.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from starlette._utils import get_route_path  # what routes match, to the last character
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from noisevote.service.errors import ServiceError
from noisevote.service.rest.methods import allowed_methods
from noisevote.service.validation import shown

# Messages name what was sent, and people write long names: beyond this nothing of them is of use.
LONGEST_MESSAGE: Final = 2000
# Paths under which an error is its message alone.
MESSAGE_ALONE: Final = re.compile(r"/v2(/|$)")


def error_response(
    scope: Scope, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to what a scope asks for; the message is for people, the code for programs."""
    shown_message = printable(message)
    told: Any = (
        shown_message if MESSAGE_ALONE.match(get_route_path(scope)) else {"code": code, "message": shown_message}
    )
    content = orjson.dumps({"error": told})
    return Response(content, status, headers, media_type="application/json")


def printable(message: str) -> str:
    """A message as it can be sent: cut where it is long; what was sent may hold half a surrogate pair."""
    cut = message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}…"
    return cut.encode(errors="backslashreplace").decode()


def response_of(error: ServiceError, scope: Scope) -> Response:
    """The answer that an error of ours becomes for what a scope asks for."""
    return error_response(scope, error.status, error.code, str(error), error.headers)


def answer_errors(app: FastAPI) -> None:
    """Make whatever a route raises an answer of this form."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_left)
    app.add_exception_handler(Exception, _unexpected_error)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return response_of(error, request.scope)


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer what the router itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    code = {404: "unknown_path", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    path = shown(request.scope["path"])[1:-1]  # not that of its URL, which leaves line ends out
    message = f"{shown(request.method)[1:-1]} {path}: {error.detail}"
    headers = dict(error.headers or {})
    if error.status_code == 405:  # the router names those of the one route that it looked at last
        headers["Allow"] = ", ".join(allowed_methods(request.app.routes, request.scope))
    return error_response(request.scope, error.status_code, code, message, headers)


async def _client_left(_: Request, __: Exception) -> Response:
    """Nobody reads this answer."""
    return Response(status_code=400)


async def _unexpected_error(request: Request, error: Exception) -> Response:
    return unexpected(error, request.scope)


def unexpected(error: Exception, scope: Scope) -> Response:
    """The answer to a defect of ours. The server's log has the traceback."""
    message = f"unexpected {type(error).__name__}; the server's log says more"
    return error_response(scope, 500, "internal_error", message)
