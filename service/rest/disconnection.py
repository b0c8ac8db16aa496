"""Clients that leave before their answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Final, Protocol

from fastapi import Request

# Where a request's scope has its `Departure`, if the connection is one of ours.
DEPARTURE: Final = "noisevote.departure"


class Abandonable(Protocol):
    """An accepted request."""

    def abandon(self) -> None:
        """Drop what is not yet computed."""


class Departure:
    """Whom a connection tells that the client of a request has left.

    `listen` makes the connection read on, without which it would not hear of that.
    """

    __slots__ = ("_abandon", "_left", "_listen")

    def __init__(self, listen: Callable[[], None]) -> None:
        self._listen = listen
        self._abandon: Callable[[], None] | None = None
        self._left = False

    def tell(self) -> None:
        """The client has left."""
        self._left = True
        if self._abandon is not None:
            self._abandon()

    def call(self, abandon: Callable[[], None]) -> "Departure":
        """Call this, as long as the context lasts, once the client has left."""
        self._abandon = abandon
        return self

    async def __aenter__(self) -> None:
        self._listen()
        if self._left and self._abandon is not None:
            self._abandon()

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._abandon = None


def abandoned_when_left(request: Request, prediction: Abandonable) -> AbstractAsyncContextManager[None]:
    """Abandon a prediction if its client leaves meanwhile. The request's body must have been read."""
    departure: Departure | None = request.scope.get(DEPARTURE)
    if departure is None:
        return _watched(request, prediction)
    return departure.call(prediction.abandon)


@asynccontextmanager
async def _watched(request: Request, prediction: Abandonable) -> AsyncIterator[None]:
    """The same on any server, by a task for each request."""
    watching = asyncio.create_task(_abandon_when_left(request, prediction))
    try:
        yield
    finally:
        watching.cancel()


async def _abandon_when_left(request: Request, prediction: Abandonable) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    prediction.abandon()
