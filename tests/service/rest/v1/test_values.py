"""Values as clients of all languages send them: integers with a point, nulls, keys in the query."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import BaseModel

from noisevote.model_store.store import ModelStore
from noisevote.service.rest.admission import Demand
from noisevote.service.rest.v1.demand import demand
from noisevote.service.rest.v1.plan_schemas import PlanRequest
from noisevote.service.rest.v1.schemas import PredictRequest
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES, SHAPE
from tests.support.serving import serve

MODEL = "/v1/models/tiny"
JSON = {"content-type": "application/json"}
ASKED: dict[str, Any] = {"inputs": [np.full(SHAPE, 0.5).tolist()], "seed": 1}
PLANNED: dict[str, Any] = {"sigma": 1.0, "accuracy": 0.1}
BODIES: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "predict": (PredictRequest, ASKED),
    "plan": (PlanRequest, PLANNED),
}
TIMES = {"timing_ms"}


@pytest.fixture
async def client(store: ModelStore) -> AsyncIterator[httpx.AsyncClient]:
    """A server of `tiny`."""
    async with serve(store, FakeEngine(CLASSES)) as client:
        yield client


async def answered(client: httpx.AsyncClient, path: str, content: str) -> dict[str, Any]:
    """The answer to a body that must be accepted, without what time it took."""
    response = await client.post(f"{MODEL}/{path}", content=content, headers=JSON)
    assert response.status_code == 200, response.text
    return {key: value for key, value in response.json().items() if key not in TIMES}


async def refused(client: httpx.AsyncClient, path: str, content: str) -> str:
    """The message of a body that must be refused."""
    response = await client.post(f"{MODEL}/{path}", content=content, headers=JSON)
    assert response.status_code == 422, response.text
    return str(response.json()["error"]["message"])


@pytest.mark.parametrize("written", ["20.0", "2E1", "2e+01", "200e-1"])
@pytest.mark.parametrize(
    ("path", "key"),
    [("predict", key) for key in ("votes", "reads", "seed", "first_vote")]
    + [("plan", key) for key in ("max_votes", "max_reads", "products", "layer_times")],
)
async def test_an_integral_number_is_an_integer(client: httpx.AsyncClient, path: str, key: str, written: str) -> None:
    """However it is written, as JSON Schema has it: 20.0 and 2E1 are 20."""
    body = {"sigma": 1.0} if key in {"products", "layer_times"} else BODIES[path][1]
    more = {"execution": "parallel"} if key == "layer_times" else {}
    plain = json.dumps(body | more | {key: 20})
    assert f'"{key}": 20' in plain
    assert await answered(client, path, plain.replace(f'"{key}": 20', f'"{key}": {written}')) == await answered(
        client, path, plain
    )


async def test_a_priority_may_be_written_so_too(client: httpx.AsyncClient) -> None:
    """Its greatest is 8."""
    await answered(client, "predict", json.dumps(ASKED | {"priority": 8.0}))


@pytest.mark.parametrize(
    ("path", "key", "value", "message"),
    [
        ("predict", "votes", 2.5, "votes: 2.5: Input should be a valid integer"),
        ("predict", "votes", 0.0, "votes: 0: Input should be greater than or equal to 1"),
        ("predict", "seed", 1e18, "seed: 1e+18: beyond 2⁵³ an integer is written in digits"),
        ("plan", "products", 1e300, "products: 1e+300: beyond 2⁵³ an integer is written in digits"),
        ("plan", "products", 10**310, "products: inf"),
        ("plan", "layer_times", 10**310, "layer_times: inf"),
        ("plan", "max_votes", 10**310, "max_votes: inf"),
    ],
)
async def test_other_numbers_are_no_integers(
    client: httpx.AsyncClient, path: str, key: str, value: float, message: str
) -> None:
    """Nor those that a double may have rounded, of which nobody knows which integer was meant."""
    body = {"sigma": 1.0, key: value} if path == "plan" else ASKED | {key: value}
    assert message in await refused(client, path, json.dumps(body))


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (path, key)
        for path, (body, _) in BODIES.items()
        for key, field in body.model_fields.items()
        if not field.is_required() and key not in {"sigma", "snr_db", "accuracy"}
    ],
)
async def test_null_is_not_given(client: httpx.AsyncClient, path: str, key: str) -> None:
    """Of every optional key, as clients with types of their own send it: the answer is the one without the key."""
    body = {name: value for name, value in BODIES[path][1].items() if name != key}
    nulled = await answered(client, path, json.dumps(body | {key: None}))
    plain = await answered(client, path, json.dumps(body))
    for answer in (nulled, plain) if key == "seed" else ():
        del answer["seed"], answer["predictions"]
    assert nulled == plain


async def test_null_is_not_given_inside_a_rule(client: httpx.AsyncClient) -> None:
    """`delta` has a default too; a rule without its name has none."""
    plain = await answered(client, "predict", json.dumps(ASKED | {"stop": {"rule": "confidence"}}))
    nulled = await answered(client, "predict", json.dumps(ASKED | {"stop": {"rule": "confidence", "delta": None}}))
    assert nulled == plain
    assert "stop.rule: None" in await refused(client, "predict", json.dumps(ASKED | {"stop": {"rule": None}}))


@pytest.mark.parametrize("path", ["predict", "predict/stream", "plan"])
@pytest.mark.parametrize("key", ["sigma", "snr_db"])
async def test_null_noise_is_refused(client: httpx.AsyncClient, path: str, key: str) -> None:
    """JavaScript sends a NaN as null, and a NaN must not become no noise."""
    body = {"accuracy": 0.1} if path == "plan" else ASKED
    message = await refused(client, path, json.dumps(body | {key: None}))
    assert message == f"{key}: None: null is no number (JavaScript sends it for NaN); leave the key out instead"


async def test_null_for_what_is_needed_or_unknown_is_refused(client: httpx.AsyncClient) -> None:
    """It is not there, or misspelt."""
    assert "inputs: None" in await refused(client, "predict", json.dumps(ASKED | {"inputs": None}))
    assert "sgima: unknown key" in await refused(client, "predict", json.dumps(ASKED | {"sgima": None}))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sigma=1&votes=3", "sigma: '1' in the query; it is a key of the JSON body"),
        ("key=abc&snr_db=3", "snr_db: '3' in the query"),
        ("inputs=", "inputs: '' in the query"),
    ],
)
async def test_keys_of_the_body_in_the_query_are_refused(client: httpx.AsyncClient, query: str, message: str) -> None:
    """On every route of /v1 whose body has keys: there they would change nothing, without a word."""
    described = (await client.get("/openapi.json")).json()["paths"]
    posts = [path for path, operations in described.items() if path.startswith("/v1/models/") and "post" in operations]
    assert len(posts) >= 6
    for path in posts:
        asked_key = message.partition(":")[0]
        if path.endswith("/plan") and asked_key == "inputs":
            continue  # no key of a plan
        if "/certify" in path and asked_key in {"sigma", "snr_db"}:
            continue  # nor of a certificate
        filled = path.replace("{name}", "tiny").replace("{version}", "1")
        response = await client.post(f"{filled}?{query}", json=PLANNED if path.endswith("/plan") else ASKED)
        assert response.status_code == 422, path
        assert message in response.json()["error"]["message"]


async def test_other_keys_in_the_query_are_ignored(client: httpx.AsyncClient) -> None:
    """Gateways add their own."""
    for path, body in (("predict", ASKED), ("predict/stream", ASKED), ("plan", PLANNED)):
        response = await client.post(f"{MODEL}/{path}?api-version=3&trace=%ff&=&sigmas=1", json=body)
        assert response.status_code == 200


async def test_a_long_value_in_the_query_is_cut(client: httpx.AsyncClient) -> None:
    """As all values in messages."""
    response = await client.post(f"{MODEL}/predict?sigma={'9' * 5000}", json=ASKED)
    assert len(response.text) < 300


def test_the_door_reads_values_alike() -> None:
    """What is looked at while others wait: null votes are the default, and 3.0 are three."""
    assert demand(b'{"inputs": [1, 2], "votes": null}', {}) == Demand(2, 20, None)
    assert demand(b'{"inputs": [1, 2], "votes": 3.0, "deadline_ms": null}', {}) == Demand(2, 3, None)
    assert demand(b'{"inputs": [1, 2], "votes": 3.5}', {}) is None
