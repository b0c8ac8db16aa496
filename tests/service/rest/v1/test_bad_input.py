"""Every bad request gets a 4xx that names the key and the value, and changes nothing."""

import base64
import io
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from noisevote.model_store.store import ModelStore
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES, SHAPE
from tests.support.serving import serve

PATH = "/v1/models/tiny/predict"
GOOD = {"inputs": [np.full(SHAPE, 0.5).tolist()], "seed": 1}
JSON = {"content-type": "application/json"}


def nested(value: Any, place: tuple[int, ...] = (0, 2, 3), shape: tuple[int, ...] = SHAPE) -> list[Any]:
    """One good input, and a second with another value at a place."""
    array = np.full(shape, 0.5).tolist()
    array[place[0]][place[1]][place[2]] = value
    return [GOOD["inputs"][0], array]  # type: ignore[index]  # it is a list


def png(size: tuple[int, int] = (6, 6), mode: str = "L", file_format: str = "PNG") -> str:
    """An image file in base64."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, file_format)
    return base64.b64encode(file.getvalue()).decode()


def raw(content: bytes, dtype: str = "uint8") -> list[Any]:
    """One input as bytes."""
    return [{"b64": base64.b64encode(content).decode(), "dtype": dtype}]


@pytest.fixture
async def client(store: ModelStore) -> AsyncIterator[httpx.AsyncClient]:
    """A server with small limits and an engine that remembers what it was asked."""
    limits = {"max_votes": 100, "max_inputs": 4, "max_body_bytes": 20_000, "queue_rows": 200}
    async with serve(store, FakeEngine(CLASSES), **limits) as client:
        yield client


async def refused(client: httpx.AsyncClient, body: object, status: int = 422, path: str = PATH) -> str:
    """The message of a request that must be refused; json.dumps writes NaN and Infinity where they are asked for."""
    response = await client.post(path, content=json.dumps(body), headers=JSON)
    assert response.status_code == status, response.text
    (error,) = response.json().values()
    assert set(error) == {"code", "message"}
    assert error["code"]
    return str(error["message"])


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": -0.1}, "sigma: -0.1"),
        ({"sigma": 10.5}, "sigma: 10.5"),
        ({"sigma": NAN}, "sigma: nan"),
        ({"sigma": INFINITY}, "sigma: inf"),
        ({"sigma": "0.5"}, "sigma: '0.5'"),
        ({"sigma": True}, "sigma: True"),
        ({"snr_db": -21}, "snr_db: -21"),
        ({"snr_db": NAN}, "snr_db: nan"),
        ({"snr_db": 6.0, "sigma": 0.5}, "snr_db: 6.0 beside sigma 0.5"),
        ({"sgima": 0.5}, "sgima: unknown key (its value is 0.5)"),
        ({"noise": "pink"}, "noise: 'pink'"),
        ({"votes": 0}, "votes: 0"),
        ({"votes": -1}, "votes: -1"),
        ({"votes": 101}, "votes: 101 is more than 100"),
        ({"votes": 2.5}, "votes: 2.5"),
        ({"votes": "20"}, "votes: '20'"),
        ({"first_vote": -1}, "first_vote: -1"),
        ({"first_vote": 2**31 + 1}, f"first_vote: {2**31 + 1}"),
        ({"votes": INFINITY}, "votes: inf"),
        ({"votes": 100, "inputs": GOOD["inputs"] * 3}, "votes: 100 on each of 3 inputs"),  # type: ignore[operator]
        ({"reads": 0}, "reads: 0"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": 2**64}, "seed: 1.8446744073709552e+19"),
        ({"seed": 1.5}, "seed: 1.5"),
        ({"alpha": 0}, "alpha: 0"),
        ({"alpha": 1}, "alpha: 1"),
        ({"alpha": NAN}, "alpha: nan"),
        ({"stop": {"rule": "never"}}, "stop.rule: 'never'"),
        ({"stop": {"rule": "fixed", "delta": 0.1}}, "stop.delta: unknown key"),
        ({"stop": {"rule": "exact", "delta": 0.1}}, "stop.delta: unknown key"),
        ({"stop": {"rule": "confidence", "delta": 1.0}}, "stop.delta: 1.0"),
        ({"stop": {"rule": "confidence", "delta": 0.0}}, "stop.delta: 0.0"),
        ({"stop": {"rule": "confidence", "delta": NAN}}, "stop.delta: nan"),
        ({"stop": {"rule": "confidence", "delta": "0.1"}}, "stop.delta: '0.1'"),
        ({"stop": {"delta": 0.1}}, "stop.rule: is missing"),
        ({"deadline_ms": 0}, "deadline_ms: 0"),
        ({"deadline_ms": INFINITY}, "deadline_ms: inf"),
        ({"stop": {"rule": 3}}, "stop.rule: 3"),
        ({"stop": "fixed"}, "stop: 'fixed'"),
        ({"variant": 8}, "variant: 8"),
        ({"inputs": []}, "inputs: []"),
        ({"inputs": "digits"}, "inputs: 'digits'"),
        ({"inputs": GOOD["inputs"] * 5, "votes": 1}, "inputs: 5 inputs are more than 4"),  # type: ignore[operator]
        ({"inputs": [7]}, "inputs[0]: 7"),
        ({"inputs": [None]}, "inputs[0]: None"),
        ({"inputs": [[]]}, "inputs[0]: 0 values; the shape is [1, 6, 6]"),
        ({"inputs": [np.zeros((1, 6, 5)).tolist()]}, "inputs[0][0][0]: 5 values; the shape is [1, 6, 6]"),
        ({"inputs": [np.zeros((6, 6)).tolist()]}, "inputs[0]: 6 values; the shape is [1, 6, 6]"),
        ({"inputs": [np.zeros((1, 6, 6, 1)).tolist()]}, "inputs[0][0][0][0]: [0.0] is not a number"),
        ({"inputs": nested([0.5])}, "inputs[1][0][2][3]: [0.5] is not a number"),
        ({"inputs": nested("0.5")}, "inputs[1][0][2][3]: '0.5' is not a number"),
        ({"inputs": nested(None)}, "inputs[1][0][2][3]: None is not a number"),
        ({"inputs": nested(True)}, "inputs[1][0][2][3]: True is not a number"),
        ({"inputs": nested(NAN)}, "inputs[1][0][2][3]: nan"),
        ({"inputs": nested(INFINITY)}, "inputs[1][0][2][3]: inf"),
        ({"inputs": nested(-INFINITY)}, "inputs[1][0][2][3]: -inf"),
        ({"inputs": nested(1e300)}, "inputs[1][0][2][3]: inf"),
        ({"inputs": nested(255)}, "inputs[1][0][2][3]: 255.0 is outside the value range 0.0 … 1.0"),
        ({"inputs": nested(-0.01)}, "inputs[1][0][2][3]: -0.01"),
        ({"inputs": [{}]}, "inputs[0].b64: is missing"),
        ({"inputs": [{"b64": "AAAA"}]}, "inputs[0].dtype: is missing"),
        ({"inputs": [{"b64": "AAAA", "dtype": "int8"}]}, "inputs[0].dtype: 'int8'"),
        ({"inputs": [{"b64": "A*AA", "dtype": "uint8"}]}, "inputs[0].b64: 'A*AA' is not base64"),
        ({"inputs": [{"b64": "AAAAA", "dtype": "uint8"}]}, "inputs[0].b64: 'AAAAA' is not base64"),
        ({"inputs": [{"b64": "", "dtype": "uint8", "image": ""}]}, "inputs[0].b64: unknown key"),
        ({"inputs": [{"pixels": [0]}]}, "inputs[0].b64: is missing"),
        ({"inputs": raw(bytes(35))}, "inputs[0].b64: 35 bytes; uint8 of shape [1, 6, 6] has 36"),
        ({"inputs": raw(bytes(36), "float32")}, "inputs[0].b64: 36 bytes; float32 of shape [1, 6, 6] has 144"),
        ({"inputs": raw(np.full(36, np.nan, "<f4").tobytes(), "float32")}, "inputs[0][0][0][0]: nan"),
        ({"inputs": raw(np.full(36, 2, "<f4").tobytes(), "float32")}, "inputs[0][0][0][0]: 2.0"),
        ({"inputs": [{"image": 5}]}, "inputs[0].image: 5"),
        ({"inputs": [{"image": "not base64"}]}, "inputs[0].image: 'not base64' is not base64"),
        ({"inputs": [{"image": "AAAA"}]}, "inputs[0].image: the content is neither a PNG nor a JPEG"),
        ({"inputs": [{"image": png()[:60]}]}, "inputs[0].image: not a readable PNG or JPEG"),
        ({"inputs": [{"image": png(file_format="GIF")}]}, "inputs[0].image: the content is neither a PNG nor a JPEG"),
        ({"inputs": [{"image": png((6, 7))}]}, "inputs[0].image: the image is 6×7 pixels, the model takes 6×6"),
        ({"inputs": [{"image": png(mode="RGBA")}]}, "inputs[0].image: the image is transparent"),
    ],
    ids=str,
)
async def test_bad_values_are_named(client: httpx.AsyncClient, change: dict[str, Any], message: str) -> None:
    """422, the key, the value."""
    assert message in await refused(client, GOOD | change)


async def test_an_image_that_would_unpack_to_gigabytes_is_refused_by_its_header(client: httpx.AsyncClient) -> None:
    """A small file that claims 30,000 × 30,000 pixels costs nothing."""
    header = bytearray(base64.b64decode(png()))
    header[16:24] = (30_000).to_bytes(4) * 2
    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4)
    message = await refused(client, GOOD | {"inputs": [{"image": base64.b64encode(header).decode()}]})
    assert message == "inputs[0].image: the image is 30000×30000 pixels, the model takes 6×6"


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/models/other/predict", GOOD, "model: 'other' is not one of tiny"),
        ("/v1/models/tiny/versions/2/predict", GOOD, "version: '2' is not one of 1"),
        ("/v1/models/tiny/versions/01/predict", GOOD, "version: '01'"),
        ("/v1/models/%2e%2e/predict", GOOD, "model: '..' is not one of tiny"),
        (PATH, GOOD | {"variant": "mul-9"}, "variant: 'mul-9' is not one of auto, mul-0.0, mul-0.8"),
    ],
)
async def test_unknown_names_are_404(client: httpx.AsyncClient, path: str, body: object, message: str) -> None:
    """With what there is instead."""
    assert message in await refused(client, body, 404, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "body: "),
        (b"{", "body: "),
        (b"[1]", "body: a JSON object is needed, not list"),
        (b"null", "body: a JSON object is needed, not NoneType"),
        (b'{"inputs": [\xff]}', "body: "),
        (b"[" * 10_000, "body: "),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_what_is_not_a_json_object_is_400(client: httpx.AsyncClient, content: bytes, message: str) -> None:
    """Broken, of another kind, or nested beyond reason."""
    response = await client.post(PATH, content=content, headers=JSON)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(message)


async def test_a_key_that_cannot_be_encoded_is_still_shown(client: httpx.AsyncClient) -> None:
    """Half a surrogate pair in a key cannot be sent back as such, only as its escape."""
    response = await client.post(PATH, content=b'{"inputs": [1], "\\ud800": 1}', headers=JSON)
    assert response.status_code == 422
    assert "\\ud800" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/jsonp"},
        JSON | {"content-encoding": "br"},
        JSON | {"content-encoding": "gzip, gzip"},
    ],
)
async def test_other_content_types_are_415(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Only plain JSON, announced as such."""
    response = await client.post(PATH, content=json.dumps(GOOD).encode(), headers=headers)
    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_media_type"


async def test_json_may_name_its_charset(client: httpx.AsyncClient) -> None:
    """Parameters of the content type do no harm."""
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert (await client.post(PATH, content=json.dumps(GOOD), headers=headers)).status_code == 200


async def test_a_body_over_the_limit_is_413_before_it_is_read(client: httpx.AsyncClient) -> None:
    """One that announces its length is refused unread; one that does not, as soon as it passes the limit."""
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b" " * 1000

    announced = await client.post(PATH, content=endless(), headers=JSON | {"content-length": "20001"})
    assert announced.status_code == 413
    assert "20001 bytes" in announced.json()["error"]["message"]
    assert read == 0
    chunked = await client.post(PATH, content=endless(), headers=JSON)
    assert chunked.status_code == 413
    assert "more than 20000 bytes" in chunked.json()["error"]["message"]
    assert read <= 22


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", PATH, 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "unknown_path"),
        ("GET", "/v1/models/other", 404, "unknown_model"),
        ("GET", "/v1/models/tiny/versions/7", 404, "unknown_version"),
    ],
)
async def test_every_error_has_the_same_form(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    """Also those of the router itself."""
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code


async def test_an_unknown_path_is_told_as_it_was_asked_for(client: httpx.AsyncClient) -> None:
    """With line ends, which a URL may not hold, so that nobody looks for a path that is there."""
    response = await client.get("/v1/mod%0Aels")
    assert response.json()["error"]["message"] == r"GET /v1/mod\nels: Not Found"


async def test_refused_requests_change_nothing(store: ModelStore) -> None:
    """After a hundred bad requests the engine was never asked, nothing waits, and a good one is answered."""
    engine = FakeEngine(CLASSES)
    async with serve(store, engine) as client:
        before = (await client.post(PATH, json=GOOD)).json()["predictions"]
        asked = len(engine.batches)
        for change in ({"sigma": -1}, {"votes": 0}, {"variant": "none"}, {"inputs": nested(NAN)}):
            for _ in range(25):
                await refused(client, GOOD | change, 404 if "variant" in change else 422)
        assert len(engine.batches) == asked
        assert (await client.post(PATH, json=GOOD)).json()["predictions"] == before
