"""At the door: predictions that the queue has no room for are refused before anything is spent on them.

Routing, validating and decoding a request take about half a millisecond of a processor, which under overload
goes to requests that are then refused, and not to the votes of those that were accepted. So while
votes wait, a short body is looked into for how many it asks for and by when, and whoever would be refused in the end
is refused here, by the same rule. All others, valid or not, go on as if nothing had been looked at.
"""

import re
from collections import deque
from dataclasses import dataclass
from typing import Final

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from noisevote.engine.session_key import SessionKey
from noisevote.service.errors import QueueFullError, ServiceError
from noisevote.service.rest.error_responses import response_of
from noisevote.service.rest.v1.schemas import PredictRequest
from noisevote.service.runtime import Runtime

PATH: Final = re.compile(r"/v1/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/predict(?:/stream)?$")
USUAL_VOTES: Final = PredictRequest.model_fields["votes"].default
# Looking into a longer body would take long itself.
LONGEST_BODY: Final = 16 * 1024


@dataclass(frozen=True)
class Wanted:
    """What a body asks for, as far as the queue is concerned."""

    inputs: int
    votes: int
    deadline_ms: float | None


def wanted(body: bytes) -> Wanted | None:
    """What a body asks for; None if that cannot be told, because it is not valid."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(asked, dict):
        return None
    inputs, votes, deadline_ms = asked.get("inputs"), asked.get("votes", USUAL_VOTES), asked.get("deadline_ms")
    if not isinstance(inputs, list) or type(votes) is not int or type(deadline_ms) not in (int, float, type(None)):
        return None
    return Wanted(len(inputs), votes, deadline_ms)


class Admission:
    """Middleware around the application, for requests that ask for votes while others wait."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        session = self._session(scope) if self._runtime.dispatcher.busy else None
        if session is None:
            await self._app(scope, receive, send)
            return
        messages = await _short_body(receive)
        try:
            self._refuse_if_full(messages)
        except QueueFullError as error:
            self._runtime.metrics.requests(session, error.code).inc()
            await response_of(error)(scope, receive, send)
        else:
            await self._app(scope, _again(messages, receive), send)

    def _session(self, scope: Scope) -> SessionKey | None:
        """The model and version that a request asks to vote; None if it asks for something else."""
        if scope["type"] != "http" or scope["method"] != "POST" or (asked := PATH.search(scope["path"])) is None:
            return None
        try:
            manifest = self._runtime.registry.version(asked["name"], asked["version"]).manifest
        except ServiceError:
            return None
        return SessionKey(manifest.name, manifest.version, "")

    def _refuse_if_full(self, messages: list[Message]) -> None:
        body = b"".join(message.get("body", b"") for message in messages)
        if len(body) > LONGEST_BODY:
            return
        asked, settings = wanted(body), self._runtime.settings
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
