"""Clients that leave, as a connection tells of it and as any other server does."""

import asyncio
from typing import Any

from fastapi import Request

from noisevote.service.rest.disconnection import DEPARTURE, Departure, abandoned_when_left


class Asked:
    """An accepted request that notes when it is abandoned."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.abandoned = asyncio.Event()

    def abandon(self) -> None:
        self.told.append("left")
        self.abandoned.set()


async def test_a_connection_tells_once_its_client_has_left() -> None:
    """While the answer is computed, or before that began; afterwards nobody is told. Meanwhile it is listened to."""
    listened: list[bool] = []
    departure, asked = Departure(lambda: listened.append(True)), Asked()
    request = Request({"type": "http", DEPARTURE: departure})
    async with abandoned_when_left(request, asked):
        assert listened
        assert asked.told == []
        departure.tell()
        assert asked.told == ["left"]
    late = Asked()
    async with abandoned_when_left(request, late):
        assert late.told == ["left"]
    departure.tell()
    assert asked.told == late.told == ["left"]


async def test_on_any_other_server_the_client_is_watched() -> None:
    """By what its `receive` says."""
    left = asyncio.Event()
    asked = Asked()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async with abandoned_when_left(Request({"type": "http"}, receive), asked):
        await asyncio.sleep(0)
        assert asked.told == []
        left.set()
        await asyncio.wait_for(asked.abandoned.wait(), 30)
    assert asked.told == ["left"]
