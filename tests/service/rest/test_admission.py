"""What the door refuses, and that it refuses nothing else."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.rest.admission import LONGEST_BODY, Admission, Demand
from noisevote.service.rest.v1.demand import demand
from noisevote.service.rest.v1.schemas import DEFAULTS
from tests.support.engines import FakeEngine, until
from tests.support.graphs import CLASSES, SHAPE
from tests.support.serving import serve

ZERO: Any = [[[0.0] * SHAPE[2]] * SHAPE[1]] * SHAPE[0]
PATH = "/v1/models/tiny/predict"
REFUSED_AT_THE_DOOR = 'noisevote_requests_total{code="queue_full",model="tiny",variant="",version="1"} 2.0'
CountedVotes = tuple[int, Any]


async def in_parts(content: bytes) -> AsyncIterator[bytes]:
    """A body that arrives in two parts."""
    yield content[:10]
    yield content[10:]


async def answer(client: httpx.AsyncClient, path: str, content: bytes | AsyncIterator[bytes]) -> CountedVotes | None:
    """Status and body of what is answered at once; None for a request that is accepted, and then left."""
    asking = asyncio.create_task(
        client.post(path, content=content, headers={"content-type": "application/json"}), name="asking"
    )
    await until(lambda: asking.done() or _waiting(client) > 1)
    if asking.done():
        response = asking.result()
        return response.status_code, response.json()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: _waiting(client) == 1)
    return None


def _waiting(client: httpx.AsyncClient) -> int:
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    dispatcher = transport.app.state.runtime.dispatcher  # type: ignore[attr-defined]  # a FastAPI application
    return int(dispatcher.load().requests)


CASES: dict[str, tuple[str, dict[str, Any] | bytes, int | None]] = {
    "fits": (PATH, {"inputs": [ZERO], "votes": 10}, None),
    "too many votes for what is left": (PATH, {"inputs": [ZERO], "votes": 11}, 429),
    "too many inputs for what is left": (PATH, {"inputs": [ZERO] * 11, "votes": 1}, 429),
    "usual votes": (PATH, {"inputs": [ZERO]}, 429),
    "streamed": (f"{PATH}/stream", {"inputs": [ZERO], "votes": 11}, 429),
    "of a version": ("/v1/models/tiny/versions/1/predict", {"inputs": [ZERO], "votes": 11}, 429),
    "deadline passes while others wait": (PATH, {"inputs": [ZERO], "votes": 1, "deadline_ms": 59_000}, 429),
    "deadline is long enough": (PATH, {"inputs": [ZERO], "votes": 1, "deadline_ms": 61_000}, None),
    "more votes than are ever allowed": (PATH, {"inputs": [ZERO], "votes": 25}, 422),
    "more rows than the queue holds": (PATH, {"inputs": [ZERO] * 31, "votes": 1}, 422),
    "deadline of nothing": (PATH, {"inputs": [ZERO], "votes": 1, "deadline_ms": 0}, 422),
    "votes as text": (PATH, {"inputs": [ZERO], "votes": "20"}, 422),
    "votes that are no number": (PATH, {"inputs": [ZERO], "votes": True}, 422),
    "no inputs": (PATH, {"votes": 20}, 422),
    "unknown model": ("/v1/models/other/predict", {"inputs": [ZERO], "votes": 11}, 404),
    "not JSON": (PATH, b'{"inputs": no}', 400),
    "no object": (PATH, b"[]                    ", 400),
}


@pytest.mark.parametrize(("path", "body", "status"), CASES.values(), ids=CASES)
async def test_the_door_answers_as_the_application_would(
    store: ModelStore, path: str, body: dict[str, Any] | bytes, status: int | None
) -> None:
    """With 20 of 30 rows taken, a short body, whole or in parts, gets the answer of one too long to be looked into."""
    engine = FakeEngine(CLASSES)
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    long = content + b" " * LONGEST_BODY
    async with serve(store, engine, queue_rows=30, max_votes=24, threads=1) as client:
        engine.may_run.clear()
        first = asyncio.create_task(client.post(PATH, json={"inputs": [ZERO], "votes": 20}))
        await until(lambda: bool(engine.batches))
        _take_a_second_a_row(client)
        found = [await answer(client, path, sent) for sent in (content, in_parts(content), long)]
        at_the_door = (await client.get("/metrics")).text.count(REFUSED_AT_THE_DOOR)
        engine.may_run.set()
        assert (await first).status_code == 200
    assert found[0] == found[1] == found[2]
    assert (found[0] and found[0][0]) == status
    assert at_the_door == (status == 429)


def _take_a_second_a_row(client: httpx.AsyncClient) -> None:
    """As if every row had been timed at one second: 20 s for those that wait, 60 s with the share of later ones."""
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    runtime = transport.app.state.runtime  # type: ignore[attr-defined]  # as above
    runtime.dispatcher.expect({key: replace(pace, row_s=1.0) for key, pace in runtime.registry.profiles().items()})


async def test_an_idle_server_looks_into_no_body(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The door costs nothing where nothing waits."""
    looked: list[object] = []
    monkeypatch.setattr(Admission, "_refuse_if_full", lambda _, __, messages, ___: looked.append(messages))
    async with serve(store, FakeEngine(CLASSES), threads=1) as client:
        assert (await client.post(PATH, json={"inputs": [ZERO], "votes": 3})).status_code == 200
    assert not looked


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"inputs": [1, 2], "votes": 7, "deadline_ms": 1.5, "sigma": 1}', Demand(2, 7, 1.5)),
        (b'{"inputs": []}', Demand(0, DEFAULTS.votes, None)),
        (b'{"inputs": 3}', None),
        (b'{"inputs": [1], "votes": 2.0}', Demand(1, 2, None)),
        (b'{"inputs": [1], "deadline_ms": "9"}', None),
        (b"nonsense", None),
    ],
)
def test_a_body_tells_its_rows_and_deadline(body: bytes, expected: Demand | None) -> None:
    """As the request's own schema has them, defaults included; nothing where they are not valid."""
    assert demand(body, {}) == expected
