"""The outermost middleware: names a request, refuses pages and hosts of others, and completes and logs its answer."""

import time
from collections.abc import Callable
from typing import Final, cast

from fastapi import Request
from starlette._utils import get_route_path  # what routes match, to the last character
from starlette.datastructures import URL
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from noisevote.service.callers import Caller
from noisevote.service.errors import ServiceError
from noisevote.service.prediction.visit import Visit
from noisevote.service.rest import access_log
from noisevote.service.rest.access import Access
from noisevote.service.rest.error_responses import response_of, unexpected
from noisevote.service.rest.openings import Opening, opening
from noisevote.service.rest.response_headers import relative_location, security_headers
from noisevote.service.rest.tracing import request_id, traceparent

VISIT: Final = "noisevote.visit"
ARRIVED: Final = "noisevote.arrived"  # set by the connection: when the first bytes came to this machine
OPENING: Final = "noisevote.opening"
HEADERS: Final = "noisevote.headers"
REDIRECTS: Final = range(300, 400)


def visit_of(request: Request) -> Visit:
    """Who asks, and what is learnt of the request."""
    return cast("Visit", request.scope[VISIT])


class Edge:
    """Middleware around all others.

    Args:
        app: the application.
        access: whose pages may ask, and under which names.
        root_path: prefix under which a proxy publishes the server.
        logged: each request has a line in the log; those for `admin` routes have one anyway.
        refused: is told the code of what is refused here.
        clock: seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        root_path: str,
        *,
        logged: bool,
        refused: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._access = access
        self._root_path = root_path
        self._logged = logged
        self._refused = refused
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock()
        if self._root_path:
            scope = self._prefixed(scope)
        headers = scope[HEADERS] = dict(scope["headers"])
        answer = _Answer(scope, headers, send)
        opens = scope[OPENING] = opening(get_route_path(scope))
        visit = scope[VISIT] = Visit(arrived=scope.get(ARRIVED), began=began)
        try:
            self._access.refuse_strangers(opens, scope["method"], headers)
            await self._app(scope, receive, answer.send)
        except ServiceError as error:
            self._refused(error.code)
            await response_of(error, scope)(scope, receive, answer.send)
        except Exception as error:
            if not answer.status:
                await unexpected(error, scope)(scope, receive, answer.send)
            raise
        finally:
            visit.end(now := self._clock())
            if opens == "admin" or (self._logged and opens not in {"health", "metrics"}):
                line = access_log.AccessLine(scope, visit, answer.status, now - began, answer.names)
                access_log.write(line, admin=opens == "admin")

    def _prefixed(self, scope: Scope) -> Scope:
        """As ASGI has it: the path with its prefix, whether the proxy takes that away or not."""
        path, prefix = scope["path"], self._root_path
        whole = path if path == prefix or path.startswith(f"{prefix}/") else prefix + path
        return {**scope, "root_path": prefix, "path": whole}


class _Answer:
    """Completes the headers of an answer on their way; `status` is 0 until it has begun."""

    __slots__ = ("_scope", "_send", "names", "status")

    def __init__(self, scope: Scope, headers: dict[bytes, bytes], send: Send) -> None:
        self._scope = scope
        self._send = send
        self.names = request_id(headers.get(b"x-request-id")), traceparent(headers.get(b"traceparent"))
        self.status = 0

    async def send(self, message: Message) -> None:
        """Send a message of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": self._complete(list(message.get("headers", ())))}
        await self._send(message)

    def _complete(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        if self.status in REDIRECTS:
            headers = [(name, self._relative(value) if name == b"location" else value) for name, value in headers]
        security_headers(headers)
        name, trace = self.names
        headers.append((b"x-request-id", name))
        if trace is not None:
            headers.append((b"traceparent", trace))
        return headers

    def _relative(self, location: bytes) -> bytes:
        host = URL(scope=self._scope).netloc  # as redirects have it: where Host is missing or no name, the own address
        return relative_location(location.decode("latin-1"), host, self._scope["path"]).encode("latin-1", "replace")


class Gate:
    """Middleware around the application: asks for a key where one is needed, and counts its requests.

    Args:
        app: the application.
        access: which keys open what.
        count: counts a request; raises `ServiceError` where it is one too many.
        refused: is told the code of what is refused here, and who asked.
    """

    def __init__(
        self, app: ASGIApp, access: Access, count: Callable[[Visit], None], refused: Callable[[str, Caller], None]
    ) -> None:
        self._app = app
        self._access = access
        self._count = count
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] == "http" and scope["method"] != "OPTIONS":
            try:
                self._admit(scope[VISIT], scope[OPENING], scope[HEADERS])
            except ServiceError as error:
                self._refused(error.code, scope[VISIT].caller)
                await response_of(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, visit: Visit, opens: Opening, headers: dict[bytes, bytes]) -> None:
        visit.caller = self._access.caller(opens, headers)
        self._count(visit)
