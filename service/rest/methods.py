"""HEAD and OPTIONS, for every path alike."""

from collections.abc import Sequence
from typing import Final

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Methods:
    """Middleware: HEAD is GET without its body, OPTIONS says which methods a path has.

    Args:
        app: the application.
        routes: the paths that there are.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Translate, or pass on."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET"}, receive, _without_body(send))
        elif (
            scope["type"] == "http"
            and scope["method"] == "OPTIONS"
            and (allowed := allowed_methods(self._routes, scope))
        ):
            await Response(status_code=204, headers={"Allow": ", ".join(allowed)})(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def allowed_methods(routes: Sequence[BaseRoute], scope: Scope) -> list[str]:
    """Methods of a request's path; empty: there is no such path."""

    def has(method: str) -> bool:
        return any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)

    found = [method for method in METHODS if has(method)]
    heads = ["HEAD"] if "GET" in found else []
    return [*found, *heads, "OPTIONS"] if found else []


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head
