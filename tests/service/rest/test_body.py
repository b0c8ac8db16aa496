"""What a body may be encoded in and consist of."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.errors import BodyTooComplexError, InvalidJsonError
from noisevote.service.rest.json_body import COUNTED_BYTES, MOST_DEPTH, READ_TWICE_BYTES, JsonLimits, parse_object
from noisevote.service.settings import Settings
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES, SHAPE
from tests.support.serving import publish_tiny, serve

PATH = "/v1/models/tiny/predict"
PLAN = "/v1/models/tiny/plan"
GOOD: dict[str, Any] = {"inputs": [np.full(SHAPE, 0.5).tolist()], "seed": 1, "votes": 3}
JSON = {"content-type": "application/json"}
GZIP = JSON | {"content-encoding": "gzip"}
ZEROS = "1" + "0" * 309
LIMITS = JsonLimits(values=20_000, objects=10, keys=20)


@pytest.fixture
async def client(store: ModelStore) -> AsyncIterator[httpx.AsyncClient]:
    """A server with small limits."""
    async with serve(store, FakeEngine(CLASSES), max_body_bytes=30_000) as client:
        yield client


async def error(client: httpx.AsyncClient, content: bytes, status: int, path: str = PATH, **headers: str) -> str:
    """The short message of a request that is refused."""
    response = await client.post(path, content=content, headers=JSON | headers)
    assert response.status_code == status, response.text
    assert len(response.content) < 2500
    return str(response.json()["error"]["message"])


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
async def test_a_body_may_say_that_it_is_not_encoded(client: httpx.AsyncClient, encoding: str) -> None:
    """An empty header too, as some clients send it."""
    headers = JSON | {"content-encoding": encoding}
    assert (await client.post(PATH, content=json.dumps(GOOD), headers=headers)).status_code == 200


@pytest.mark.parametrize("path", [PATH, f"{PATH}/stream", PLAN])
async def test_a_gzip_body_is_read(client: httpx.AsyncClient, path: str) -> None:
    """By every route, to the same answer."""
    content = json.dumps(GOOD if path != PLAN else {"sigma": 1, "products": 60}).encode()
    plain = await client.post(path, content=content, headers=JSON)
    packed = await client.post(path, content=gzip.compress(content, mtime=0), headers=GZIP)
    assert plain.status_code == packed.status_code == 200
    if path == PATH:
        assert plain.json()["predictions"] == packed.json()["predictions"]


async def test_the_limit_holds_for_what_a_gzip_body_unpacks_to(client: httpx.AsyncClient) -> None:
    """A gigabyte of blanks in a megabyte is not unpacked."""
    packing = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packing.compress(bytes(2**20)) for _ in range(20)) + packing.flush()
    assert "more than 30000" in await error(client, bomb, 413, **{"content-encoding": "gzip"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "is not gzip"),
        (gzip.compress(b'{"inputs": []}', mtime=0)[:-9], "ends too early"),
        (b"", "ends too early"),
        (gzip.compress(b"{}", mtime=0) * 2, "more follows"),
    ],
)
async def test_a_body_that_is_no_gzip_file_is_400(client: httpx.AsyncClient, content: bytes, message: str) -> None:
    """With the reason."""
    assert message in await error(client, content, 400, **{"content-encoding": "gzip"})


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        (PATH, b'{"inputs":[1],"x":' + b"[" * 962 + b"]" * 962 + b"}", "x: unknown key (its value is [[[[[...]]]]])"),
        (PATH, b'{"inputs":[1],"x":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}", "x: unknown key"),
        (PATH, b'{"inputs":[' + b"[" * 900 + b"]" * 900 + b"]}", "inputs[0]"),
        (PLAN, b'{"sigma":1,"x":' + b"[" * 962 + b"]" * 962 + b"}", "x: unknown key"),
        (PATH, f'{{"inputs":[[[[{ZEROS},0,0,0,0,0]]]]}}'.encode(), "inputs[0][0]"),
        (PATH, f'{{"inputs":[1],"votes":{ZEROS}}}'.encode(), "votes: inf"),
        (PATH, f'{{"inputs":[1],"first_vote":-{ZEROS}}}'.encode(), "first_vote: -inf"),
        (PATH, b'{"inputs":[' + b"1" * 9_000 + b"]}", "inputs[0]: inf"),
        (PLAN, f'{{"sigma":1,"products":{ZEROS}}}'.encode(), "products: inf"),
        (PLAN, f'{{"sigma":1,"layer_times":{ZEROS},"execution":"parallel"}}'.encode(), "layer_times: inf"),
        (PLAN, b'{"sigma":1,"products":18446744073709551615}', "products: 18446744073709551615"),
        (PLAN, b'{"sigma":1,"layer_times":9007199254740993,"execution":"parallel"}', "layer_times: 9007199254740993"),
        (PLAN, b'{"sigma":1,"products":1,"variants":[' + b"1," * 4000 + b"1]}", "variants[0]: 1"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_deep_and_huge_values_are_named(
    client: httpx.AsyncClient, path: str, content: bytes, message: str
) -> None:
    """422 by key, never a defect of ours."""
    assert message in await error(client, content, 422, path)


async def test_a_huge_number_in_an_input_of_any_length_is_named(tmp_path: Any) -> None:
    """As pen points have it."""
    store = ModelStore(tmp_path / "other")
    publish_tiny(store)
    async with serve(store, FakeEngine(CLASSES)) as client:
        rows = [[[0.5] * SHAPE[2]] * SHAPE[1]] * SHAPE[0]
        content = orjson.dumps({"inputs": [rows]}).replace(b"0.5", ZEROS.encode(), 1)
        assert "inputs[0][0][0][0]: inf" in await error(client, content, 422)


@pytest.mark.parametrize(
    ("path", "content", "headers", "status"),
    [
        (f"/v1/models/{'m' * 60_000}/predict", b"{}", {}, 404),
        (f"/v1/models/tiny/versions/{'7' * 60_000}/predict", b"{}", {}, 404),
        (f"/v1/{'n' * 60_000}", b"{}", {}, 404),
        (PATH, b"{}", {"content-type": "t" * 60_000}, 415),
        (PATH, b"{}", {"content-encoding": "e" * 60_000}, 415),
        (PATH, orjson.dumps(GOOD | {"variant": "v" * 20_000}), {}, 404),
        (PATH, orjson.dumps(GOOD | {"noise": "n" * 20_000}), {}, 422),
        (PATH, orjson.dumps(GOOD | {"k" * 20_000: 1}), {}, 422),
        (PATH, orjson.dumps(GOOD | {"stop": {"rule": "r" * 20_000}}), {}, 422),
        (PATH, orjson.dumps(GOOD | {"stop": {"rule": "fixed", "k" * 20_000: 1}}), {}, 422),
        (PLAN, orjson.dumps({"sigma": 1, "products": 9, "variants": ["v" * 10_000]}), {}, 404),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_no_message_repeats_what_is_long(
    client: httpx.AsyncClient, path: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    """Names, versions, paths, headers, keys, values."""
    assert len(await error(client, content, status, path, **headers)) < 600


async def test_a_question_for_a_plan_is_short(client: httpx.AsyncClient) -> None:
    """Since nothing in it can be long."""
    await error(client, b'{"sigma": 1' + b" " * 17_000 + b"}", 413, PLAN)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"inputs":[' + b"[]," * 10_000 + b"[]]}", "20003 values; at most 20000"),
        (b"{" + b",".join(b'"k%d":1' % number for number in range(3000)) + b"}", "3000 keys; at most 20"),
        (b'{"inputs":[' + b"{}," * 6000 + b"{}]}", "6002 objects; at most 10"),
        (b'{"inputs":' + b"[" * 70 + b" " * COUNTED_BYTES + b"]" * 70 + b"}", f"71 deep; at most {MOST_DEPTH}"),
    ],
    ids=["lists", "keys", "objects", "depth"],
)
def test_what_costs_too_much_is_counted_before_it_is_parsed(content: bytes, message: str) -> None:
    """Values, keys, objects, levels."""
    with pytest.raises(BodyTooComplexError, match=message):
        parse_object(content, LIMITS)


def test_a_short_body_is_not_counted() -> None:
    """Its parsing costs less than a millisecond."""
    assert len(parse_object(orjson.dumps({str(number): 1 for number in range(100)}), LIMITS)) == 100


def test_a_long_body_is_parsed_once() -> None:
    """A NaN at its end does not make the server read all of it again."""
    numbers = b"0,".join([b""] * (READ_TWICE_BYTES // 2))
    with pytest.raises(InvalidJsonError, match="column"):
        parse_object(b'{"inputs":[' + numbers + b"NaN]}", JsonLimits(10**9, 10**9, 10**9))
    assert parse_object(b'{"inputs":[NaN]}', LIMITS)["inputs"][0] != 0


def test_the_default_limits_take_the_largest_valid_requests() -> None:
    """As many images of CIFAR-10 as a request may have, as nested numbers."""
    settings = Settings()
    images = orjson.dumps({"inputs": np.zeros((settings.max_inputs, 3, 32, 32), np.int8).tolist()})
    assert len(parse_object(images, JsonLimits.of(settings))["inputs"]) == settings.max_inputs
