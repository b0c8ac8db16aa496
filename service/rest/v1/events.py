"""Server-sent events of streams: how they are written, and how a stream ends early."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from anyio import BrokenResourceError
from fastapi.sse import ServerSentEvent

from noisevote.service.errors import ClientLeftError, ServiceError
from noisevote.service.rest.v1.predict import as_json


class Asked(Protocol):
    """An accepted request whose answer is streamed."""

    @property
    def over(self) -> bool:
        """Nothing more will come."""

    def tell(self, error: ServiceError) -> None:
        """Note that the client is told of this error, which is then not raised."""


def event(name: str, content: dict[str, Any]) -> ServerSentEvent:
    """An event with JSON in it."""
    return ServerSentEvent(event=name, raw_data=as_json(content).decode())


def error_event(asked: Asked, error: ServiceError) -> ServerSentEvent:
    """The last event of a stream that has no answer: its status was sent long ago."""
    asked.tell(error)
    return event("error", {"error": {"code": error.code, "message": str(error)}})


@contextmanager
def streamed(asked: Asked) -> Iterator[None]:
    """As long as its stream lasts; a request that is not over when it ends was left by its client."""
    try:
        yield
    except* BrokenResourceError:  # FastAPI has an event for a client that has left
        pass
    finally:
        if not asked.over:
            asked.tell(ClientLeftError("its client left the stream"))
