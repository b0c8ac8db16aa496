"""The votes while they are cast, over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest

from noisevote.model_store.store import ModelStore
from tests.support.engines import FakeEngine, Slow, skip_ahead, until
from tests.support.graphs import CLASSES, SHAPE
from tests.support.serving import serve

PATH = "/v1/models/tiny/predict"
INPUTS = np.random.default_rng(4).random((3, *SHAPE)).tolist()
BODY: dict[str, Any] = {"inputs": INPUTS, "sigma": 0.7, "votes": 40, "seed": 5}

Event = tuple[str, dict[str, Any]]


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    """Server-sent events: name and data."""
    name = ""
    async for line in response.aiter_lines():
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


async def streamed(client: httpx.AsyncClient, body: dict[str, Any], path: str = f"{PATH}/stream") -> list[Event]:
    """All events of a request."""
    async with client.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return [event async for event in events(response)]


def without_timing(answer: dict[str, Any]) -> dict[str, Any]:
    """What is the same each time."""
    return {key: value for key, value in answer.items() if key != "timing_ms"}


@pytest.mark.parametrize("rule", ["fixed", "exact", "confidence"])
@pytest.mark.parametrize("path", [PATH, "/v1/models/tiny/versions/1/predict"])
async def test_the_last_event_is_the_answer_of_predict(client: httpx.AsyncClient, rule: str, path: str) -> None:
    """To the last digit; the events before it count up to it, input by input."""
    body = BODY | {"stop": {"rule": rule, **({"delta": 1e-300} if rule == "confidence" else {})}, "votes": 3000}
    *before, (name, answer) = await streamed(client, body, f"{path}/stream")
    assert name == "answer"
    assert without_timing(answer) == without_timing((await client.post(path, json=body)).json())
    assert before
    counted = [[0] * CLASSES] * len(INPUTS)
    for name, data in before:
        assert name == "votes"
        for prediction in data["predictions"]:
            histogram = prediction["histogram"]
            assert sum(histogram) == prediction["votes_used"] > sum(counted[prediction["input"]])
            assert all(new >= old for new, old in zip(histogram, counted[prediction["input"]], strict=True))
            counted[prediction["input"]] = histogram
    for standing, prediction in zip(counted, answer["predictions"], strict=True):
        assert all(part <= whole for part, whole in zip(standing, prediction["histogram"], strict=True))


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (PATH, BODY | {"votes": 0}, 422),
        ("/v1/models/other/predict", BODY, 404),
        ("/v1/models/tiny/versions/9/predict", BODY, 404),
        (PATH, {}, 422),
    ],
)
async def test_what_predict_refuses_is_refused_alike(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], status: int
) -> None:
    """By status and with the same words, before any event."""
    plain, stream = [await client.post(each, json=body) for each in (path, f"{path}/stream")]
    assert stream.status_code == plain.status_code == status
    assert stream.json() == plain.json()


async def test_a_full_queue_is_429_before_any_event(store: ModelStore) -> None:
    """Nothing is queued, and there is no stream to read."""
    engine = FakeEngine(CLASSES)
    async with serve(store, engine, queue_rows=100, max_votes=100, threads=1) as client:
        engine.may_run.clear()
        first = asyncio.create_task(client.post(PATH, json=BODY | {"votes": 30}))
        await until(lambda: bool(engine.batches))
        refused = await client.post(f"{PATH}/stream", json=BODY | {"votes": 30})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        engine.may_run.set()
        assert (await first).status_code == 200


async def test_an_engine_error_is_the_last_event(store: ModelStore) -> None:
    """With the code and message that predict gives with status 500; the next request is answered."""
    engine = Slow(3, CLASSES)  # the votes so far are told before the batch that fails
    engine.failing_votes = {30}
    async with serve(store, engine, threads=1, batch_rows=8) as client:
        streaming = asyncio.create_task(streamed(client, BODY | {"inputs": INPUTS[:1]}))
        await until(lambda: len(engine.batches) == 4)
        engine.may_run.set()
        *before, last = await streaming
        assert [name for name, _ in before] == ["votes"] * len(before)
        plain = await client.post(PATH, json=BODY | {"inputs": INPUTS[:1]})
        assert last == ("error", plain.json())
        assert (await streamed(client, BODY | {"votes": 5}))[-1][0] == "answer"


async def test_at_the_deadline_the_stream_ends_with_the_votes_so_far(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Incomplete, each input with its part of the votes."""
    engine = Slow(5, CLASSES)
    async with serve(store, engine, threads=1, batch_rows=4) as client:
        streaming = asyncio.create_task(streamed(client, BODY | {"votes": 10_000, "deadline_ms": 60_000}))
        await until(lambda: len(engine.batches) == 6)
        skip_ahead(monkeypatch, 61)
        name, answer = (await streaming)[-1]
        engine.may_run.set()
    assert name == "answer"
    assert [prediction["votes_used"] for prediction in answer["predictions"]] == [7, 7, 6]
    assert {prediction["stopped_by"] for prediction in answer["predictions"]} == {"deadline"}
