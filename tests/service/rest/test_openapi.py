"""How the description of the API is made; what it says is in the tests of each protocol."""

import asyncio
import threading
from typing import Any

import httpx
import pytest
from fastapi.openapi.utils import get_openapi

from noisevote.model_store.store import ModelStore
from noisevote.service.rest import openapi
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES
from tests.support.serving import serve


async def test_others_are_answered_while_the_description_is_made(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made once for all who ask for it, also if the first of them is cut short meanwhile."""
    begun, answered = threading.Event(), threading.Event()
    made = []

    def held(**arguments: Any) -> dict[str, Any]:
        begun.set()
        made.append(answered.wait(10))
        return get_openapi(**arguments)

    monkeypatch.setattr(openapi, "get_openapi", held)
    async with serve(store, FakeEngine(CLASSES)) as client:
        cut, waiting = (asyncio.create_task(client.get("/openapi.json")) for _ in range(2))
        assert await asyncio.to_thread(begun.wait, 10)
        assert (await client.get("/healthz")).status_code == 200
        cut.cancel()
        assert (await cut).status_code == 503
        assert not waiting.done()
        answered.set()
        answers: list[httpx.Response] = [await waiting, await client.get("/openapi.json")]
    assert made == [True]
    assert answers[0].json() == answers[1].json()
    assert "/v1/models/{name}/predict" in answers[0].json()["paths"]
