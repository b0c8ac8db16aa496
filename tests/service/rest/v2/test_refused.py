"""What /v2 refuses, and that it says so as the protocol has it: `{"error": "…"}`, naming key and value."""

import asyncio
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from noisevote.model_store.store import ModelStore
from tests.support.engines import FakeEngine, until
from tests.support.graphs import CLASSES, SHAPE
from tests.support.keyed import ALICE, keyed
from tests.support.open_inference import HEADER, binary, tensor
from tests.support.serving import serve

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATH = "/v2/models/tiny/infer"
REFUSED_AT_THE_DOOR = 'noisevote_requests_total{code="queue_full",model="tiny",variant="",version="1"} 2.0'
INPUT = tensor("input", "FP32", np.full((2, *SHAPE), 0.5))
ONE = tensor("input", "FP32", np.full((1, *SHAPE), 0.5))


def told(response: httpx.Response) -> tuple[int, str]:
    """Status and message of a refusal."""
    content = response.json()
    assert list(content) == ["error"]
    return response.status_code, content["error"]


CASES: dict[str, tuple[dict[str, Any], int, str]] = {
    "no input": ({"inputs": [tensor("sigma", "FP32", [0.5])]}, 422, "inputs.input: is missing"),
    "no inputs": ({"parameters": {}}, 422, "inputs: is missing"),
    "unknown tensor": ({"inputs": [INPUT, tensor("sgma", "FP32", [1])]}, 422, "inputs: 'sgma' is not one of input"),
    "tensor twice": ({"inputs": [INPUT, INPUT]}, 422, "inputs: 'input' is there twice"),
    "unknown parameter": ({"inputs": [INPUT], "parameters": {"sgma": 1}}, 422, "sgma: unknown key"),
    "reserved parameter": ({"inputs": [INPUT], "parameters": {"sequence_id": 1}}, 422, "sequence_id: unknown key"),
    "bad parameter": ({"inputs": [INPUT], "parameters": {"votes": 0}}, 422, "votes: 0: "),
    "parameter and tensor": (
        {"inputs": [INPUT, tensor("votes", "INT64", [3])], "parameters": {"votes": 3}}, 422, "inputs.votes: beside"),
    "both noises": ({"inputs": [INPUT], "parameters": {"sigma": 1, "snr_db": 0}}, 422, "snr_db: "),
    "delta alone": ({"inputs": [INPUT], "parameters": {"delta": 0.1}}, 422, "delta: 0.1 beside stop 'fixed'"),
    "three values for two": ({"inputs": [INPUT, tensor("sigma", "FP32", [1, 1, 1])]}, 422, "inputs.sigma: 3 values"),
    "no value": ({"inputs": [INPUT, tensor("sigma", "FP32", [])]}, 422, "inputs.sigma: 0 values"),
    "one bad value of two": (
        {"inputs": [INPUT, tensor("sigma", "FP32", [1, -1])]}, 422, "of inputs[1]: sigma: -1.0"),
    "votes as floats": ({"inputs": [INPUT, tensor("votes", "FP32", [3])]}, 422, "inputs.votes.datatype: 'FP32'"),
    "beyond its datatype": ({"inputs": [INPUT, {"name": "votes", "shape": [1], "datatype": "INT32", "data": [2**40]}]},
                            422, "inputs.votes.data: 1099511627776 does not fit into INT32"),
    "too many votes": ({"inputs": [INPUT], "parameters": {"votes": 10**9}}, 422, "votes: 1000000000 is more"),
    "too many rows": (
        {"inputs": [ONE], "parameters": {"votes": 2**31 - 1}}, 422, "votes: 2147483647 is more"),
    "unknown datatype": ({"inputs": [{**INPUT, "datatype": "COMPLEX"}]}, 422, "inputs.input.datatype: 'COMPLEX'"),
    "other shape": ({"inputs": [{**INPUT, "shape": [2, 6, 6]}]}, 422, "inputs.input.shape: [2, 6, 6]; the model takes"),
    "no batch": ({"inputs": [tensor("input", "FP32", np.zeros(SHAPE))]}, 422, "inputs.input.shape: [1, 6, 6]; the"),
    "empty": ({"inputs": [tensor("input", "FP32", np.zeros((0, *SHAPE)))]}, 422, "inputs.input.shape: [0, 1, 6, 6]"),
    "too few elements": ({"inputs": [{**INPUT, "data": [0.5]}]}, 422, "inputs.input.data: 1 elements; its shape"),
    "ragged": ({"inputs": [{**INPUT, "data": [[0.5], [0.5, 0.5]]}]}, 422, "inputs.input.data: 2 elements where"),
    "text": ({"inputs": [{**ONE, "data": ["a"] * 36}]}, 422, "inputs.input.data: 'a' is no element of FP32"),
    "outside of the range": ({"inputs": [{**ONE, "data": [0.5] * 35 + [7]}]}, 422, "inputs.input[0][0][5][5]: 7.0 is"),
    "not a number": ({"inputs": [{**ONE, "data": [float("nan")] * 36}]}, 422, "inputs.input[0][0][0][0]: nan"),
    "no data": ({"inputs": [{key: value for key, value in ONE.items() if key != "data"}]}, 422, "inputs.input.data: "),
    "shared memory": (
        {"inputs": [{**ONE, "parameters": {"shared_memory_region": "a"}}]}, 422, "inputs[0].parameters.shared_memory"),
    "unknown output": ({"inputs": [ONE], "outputs": [{"name": "logits"}]}, 422, "outputs: 'logits' is not one of"),
    "output twice": ({"inputs": [ONE], "outputs": [{"name": "label"}] * 2}, 422, "outputs: one of them is there twice"),
    "class of a label": ({"inputs": [ONE], "outputs": [{"name": "label", "parameters": {"classification": 1}}]},
                         422, "outputs.classification: of label"),
    "no classes": ({"inputs": [ONE], "outputs": [{"name": "histogram", "parameters": {"classification": 0}}]},
                   422, "outputs[0].parameters.classification: 0"),
    "an image that is none": ({"inputs": [{"name": "input", "shape": [1], "datatype": "BYTES", "data": ["AAAA"]}]},
                              422, "inputs.input[0]: the content is neither"),
    "no flag": ({"inputs": [ONE], "parameters": {"binary_data_output": 1}}, 422, "parameters.binary_data_output: 1 is"),
    "unknown variant": ({"inputs": [ONE], "parameters": {"variant": "mul-9"}}, 404, "variant: 'mul-9'"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_what_cannot_be_used_is_named(tiny: httpx.AsyncClient, case: str) -> None:
    """Each by its status and the beginning of its message, the body being JSON."""
    content, status, message = CASES[case]
    found_status, found = told(await tiny.post(PATH, content=json.dumps(content)))
    assert (found_status, found[: len(message)]) == (status, message)


async def test_bodies_that_are_none(tiny: httpx.AsyncClient) -> None:
    """Lengths that do not fit, packed bodies that are not, and paths and methods that do not exist."""
    body, headers = binary({"inputs": [ONE]})
    for changed, message in (
        ({HEADER: "a"}, f"{HEADER}: 'a' is no number"),
        ({HEADER: "-1"}, f"{HEADER}: '-1' is no number"),
        ({HEADER: str(len(body) + 1)}, f"{HEADER}: {len(body) + 1} is more than"),
        ({HEADER: str(len(body))}, "body: "),
    ):
        status, found = told(await tiny.post(PATH, content=body, headers=changed))
        assert (status in {400, 422}, found[: len(message)]) == (True, message)
    status, found = told(await tiny.post(PATH, content=body[:-4], headers=headers))
    assert (status, found) == (422, "inputs.parameters.binary_data_size: 144 bytes in all; 140 follow the JSON object")
    assert told(await tiny.post(PATH, content=b"{"))[0] == 400
    assert told(await tiny.post(PATH, content=b"xx", headers={"content-encoding": "deflate"}))[0] == 400
    assert told(await tiny.post(PATH, content=b"xx", headers={"content-encoding": "br"}))[0] == 415
    assert told(await tiny.get(PATH))[0] == 405
    assert told(await tiny.get("/v2/models/none"))[0] == 404
    assert told(await tiny.get("/v2/models/tiny/versions/9"))[0] == 404
    assert told(await tiny.get("/v2/shared"))[0] == 404
    assert (await tiny.get("/v2x")).json()["error"]["code"] == "unknown_path"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
async def test_a_bomb_is_not_unpacked(store: ModelStore, pack: Any) -> None:
    """A body of a few kilobytes that unpacks to more than is read: 413."""
    coding = "gzip" if pack is gzip.compress else "deflate"
    async with serve(store, FakeEngine(CLASSES), max_body_bytes=10**5) as client:
        packed = pack(b" " * 10**7)
        assert len(packed) < 10**5
        assert told(await client.post(PATH, content=packed, headers={"content-encoding": coding}))[0] == 413
        plain = await client.post(PATH, content=b" " * 10**6)
        assert told(plain)[0] == 413


async def test_pages_elsewhere_may_not_ask(tiny: httpx.AsyncClient) -> None:
    """A form on any page could send such a body without being asked first; its origin gives it away."""
    body = json.dumps({"inputs": [ONE]})
    status, message = told(await tiny.post(PATH, content=body, headers={"origin": "https://evil.example"}))
    assert (status, message[:7]) == (403, "origin:")
    assert told(await tiny.post(PATH, content=body, headers={"sec-fetch-site": "cross-site"}))[0] == 403


async def test_keys_hold_here_too(store: ModelStore, tmp_path: Path) -> None:
    """Every path but health needs one, a key's shares are counted, and what it may not have is refused."""
    quotas = {"votes_per_minute": 100, "queued_votes": 50}
    async with keyed(store, tmp_path, quotas=quotas) as client:
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await client.get("/v2/health/ready")).status_code == 200
        for path in ("/v2", "/v2/models/tiny", "/v2/models/tiny/config", "/v2/models/stats"):
            assert told(await client.get(path))[0] == 401
            assert (await client.get(path, headers=ALICE)).status_code == 200
        assert told(await client.post(PATH, json={"inputs": [ONE]}))[0] == 401
        several = {"inputs": [INPUT, tensor("votes", "INT64", [20, 30])]}
        assert (await client.post(PATH, json=several, headers=ALICE)).status_code == 200
        many = {"inputs": [INPUT, tensor("votes", "INT64", [20, 31])]}
        assert told(await client.post(PATH, json=many, headers=ALICE))[0] == 403
        assert (await client.post(PATH, json=several, headers=ALICE)).status_code == 200
        assert told(await client.post(PATH, json=several, headers=ALICE))[0] == 429


async def test_a_policy_holds_for_each_input(store: ModelStore, tmp_path: Path) -> None:
    """A key is judged input by input; where labels alone may be shown, only they are, whether asked for or not."""
    rules = {"sigma": {"least": 0.1, "most": 1, "default": 0.5}, "noise": {"fixed": "multiplicative"}}
    rules |= {"votes": {"least": 1, "most": 9, "default": 9}, "rows": {"most": 12}, "return": {"fixed": "label"}}
    path = tmp_path / "policies.json"
    path.write_text(json.dumps({"tiny": {"predict": {**rules, "inputs": {"least": 1, "most": 2}}}}))
    async with serve(store, FakeEngine(CLASSES), policies=path) as client:
        votes = tensor("votes", "INT64", [4, 6])
        good = await client.post(PATH, json={"inputs": [INPUT, votes, tensor("sigma", "FP32", [0.1, 1])]})
        assert [each["name"] for each in good.json()["outputs"]] == ["label"]
        assert "seed" not in good.json()["parameters"]
        weak = {"inputs": [INPUT, votes, tensor("sigma", "FP32", [0.1, 0.05])]}
        assert told(await client.post(PATH, json=weak)) == (403, "sigma/√reads: 0.05; this model's policy allows at "
                                                                 "least 0.1 and at most 1")  # fmt: skip
        many = {"inputs": [INPUT, tensor("votes", "INT64", [4, 9])]}
        assert told(await client.post(PATH, json=many))[1][:19] == "inputs × votes: 13;"
        seen = {"inputs": [ONE], "outputs": [{"name": "histogram"}]}
        assert told(await client.post(PATH, json=seen))[1].startswith("return: 'histogram'")
        assert told(await client.post(PATH, json={"inputs": [ONE], "parameters": {"seed": 1}}))[1][:4] == "seed"


async def test_a_full_queue_is_said_at_the_door_and_inside(store: ModelStore) -> None:
    """429 with Retry-After, before a short body is read and after: JSON, binary, or with votes in a tensor."""
    engine = FakeEngine(CLASSES)
    async with serve(store, engine, queue_rows=10, max_votes=10) as client:
        engine.may_run.clear()
        first = asyncio.create_task(client.post(PATH, json={"inputs": [ONE], "parameters": {"votes": 10}}))
        await until(lambda: bool(engine.batches))
        plain = {"inputs": [ONE], "parameters": {"votes": 9}}
        body, headers = binary(plain)
        for response in (
            await client.post(PATH, json=plain),
            await client.post(PATH, content=body, headers=headers),
            await client.post(PATH, json={"inputs": [ONE, tensor("votes", "INT64", [9])]}),
            await client.post(PATH, json={"inputs": [INPUT, tensor("votes", "INT64", [1, 2])]}),
        ):
            assert (told(response)[0], int(response.headers["retry-after"]) > 0) == (429, True)
        assert (await client.get("/metrics")).text.count(REFUSED_AT_THE_DOOR) == 1
        engine.may_run.set()
        assert (await first).status_code == 200
