"""Clients that leave before their answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from fastapi import Request


class Abandonable(Protocol):
    """An accepted request."""

    def abandon(self) -> None:
        """Drop what is not yet computed."""


@asynccontextmanager
async def abandoned_when_left(request: Request, prediction: Abandonable) -> AsyncIterator[None]:
    """Abandon a prediction if its client leaves meanwhile. The request's body must have been read."""
    watching = asyncio.create_task(_abandon_when_left(request, prediction))
    try:
        yield
    finally:
        watching.cancel()


async def _abandon_when_left(request: Request, prediction: Abandonable) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    prediction.abandon()
