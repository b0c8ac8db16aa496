"""Refuses requests for votes that the queue has no room for, before anything is spent on them.

Routing, validating and decoding a request take about half a millisecond of a processor, which under overload
goes to requests that are then refused, and not to the votes of those that were accepted. So while
much waits, a short body is looked into for how many votes it asks for and by when, and whoever would be refused in the
end is refused here, by the same rule. All others, valid or not, go on as if nothing had been looked at.
"""

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from noisevote.engine.session_key import SessionKey
from noisevote.service.errors import QueueFullError, ServiceError
from noisevote.service.rest.edge import VISIT
from noisevote.service.rest.error_responses import response_of
from noisevote.service.runtime import Runtime

# Looking into a longer body would take long itself.
LONGEST_BODY: Final = 16 * 1024


@dataclass(frozen=True)
class Demand:
    """What a request asks of the queue: votes on each of its inputs, by a deadline if it has one."""

    inputs: int
    votes: int
    deadline_ms: float | None


@dataclass(frozen=True)
class VoteRoute:
    """Where a protocol takes requests for votes.

    `path` matches the paths of such routes and names `name` and `version` in them; `demand` looks into a body, which
    came with these headers, for what it asks for, and returns None where that cannot be told.
    """

    path: re.Pattern[str]
    demand: Callable[[bytes, Mapping[bytes, bytes]], Demand | None]


class Admission:
    """Middleware around the application, for requests that ask for votes while many wait."""

    def __init__(self, app: ASGIApp, runtime: Runtime, routes: Sequence[VoteRoute]) -> None:
        self._app = app
        self._runtime = runtime
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        found = self._vote_route(scope) if self._runtime.dispatcher.crowded else None
        if found is None:
            await self._app(scope, receive, send)
            return
        route, session = found
        messages = await _short_body(receive)
        try:
            self._refuse_if_full(route, messages, dict(scope["headers"]))
        except QueueFullError as error:
            self._runtime.metrics.requests(session, error.code).inc()
            self._runtime.metrics.count_request_of(scope[VISIT].caller, error.code)
            await response_of(error, scope)(scope, receive, send)
        else:
            await self._app(scope, _again(messages, receive), send)

    def _vote_route(self, scope: Scope) -> tuple[VoteRoute, SessionKey] | None:
        """The route of a request for votes, with the model and version that are to vote; None for any other request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        for route in self._routes:
            if (asked := route.path.search(scope["path"])) is not None:
                try:
                    manifest = self._runtime.registry.version(asked["name"], asked["version"]).manifest
                except ServiceError:
                    return None
                return route, SessionKey(manifest.name, manifest.version, "")
        return None

    def _refuse_if_full(self, route: VoteRoute, messages: list[Message], headers: Mapping[bytes, bytes]) -> None:
        body = b"".join(message.get("body", b"") for message in messages)
        if len(body) > LONGEST_BODY:
            return
        asked, settings = route.demand(body, headers), self._runtime.settings
        # What could never be accepted is for the application to refuse: to come back later would not help.
        if asked is None or asked.votes > settings.max_votes or asked.inputs * asked.votes > settings.queue_rows:
            return
        if asked.deadline_ms is None or asked.deadline_ms > 0:
            self._runtime.dispatcher.refuse_if_full(asked.inputs * asked.votes, asked.deadline_ms)


async def _short_body(receive: Receive) -> list[Message]:
    """The messages with a body, or with the beginning of one that is longer than LONGEST_BODY."""
    messages = [await receive()]
    size = len(messages[0].get("body", b""))
    while messages[-1].get("more_body", False) and size <= LONGEST_BODY:
        messages.append(await receive())
        size += len(messages[-1].get("body", b""))
    return messages


def _again(messages: list[Message], receive: Receive) -> Receive:
    """A `receive` that starts with messages that were received already."""
    unread = deque(messages)

    async def receive_again() -> Message:
        return unread.popleft() if unread else await receive()

    return receive_again
