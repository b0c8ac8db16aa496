"""`POST /v2/…/infer`: what it answers is what /v1 answers, in whatever form it is asked."""

import base64
import gzip
import io
import json
import random
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from noisevote.model_store.store import ModelStore
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES, SHAPE
from tests.support.open_inference import HEADER, binary, outputs, some_options, tensor
from tests.support.serving import serve, serve_to

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATH = "/v2/models/tiny/infer"
V1 = "/v1/models/tiny/predict"
INPUTS = np.random.default_rng(4).random((3, *SHAPE), dtype=np.float32)
INPUT = tensor("input", "FP32", INPUTS)
OPTIONS: dict[str, Any] = {"sigma": 0.5, "votes": 9, "seed": 7}


async def histograms_of_v1(tiny: httpx.AsyncClient, inputs: Any = INPUTS, **options: Any) -> Any:
    answer = await tiny.post(V1, json={"inputs": np.asarray(inputs).tolist(), **options})
    assert answer.status_code == 200, answer.text
    return [prediction["histogram"] for prediction in answer.json()["predictions"]]


async def test_every_output_is_what_v1_answers(tiny: httpx.AsyncClient) -> None:
    """Label, histogram, mean probabilities, votes, bound, abstention and completeness, of each input."""
    asked = await tiny.post(PATH, content=json.dumps({"id": "a", "inputs": [INPUT], "parameters": OPTIONS}))
    answer = (await tiny.post(V1, json={"inputs": INPUTS.tolist(), **OPTIONS})).json()
    found, told = outputs(asked), answer["predictions"]
    assert found["histogram"].tolist() == [each["histogram"] for each in told]  # type: ignore[union-attr]
    assert found["label"].tolist() == [each["index"] for each in told]  # type: ignore[union-attr]
    assert found["votes_used"].tolist() == [each["votes_used"] for each in told]  # type: ignore[union-attr]
    assert found["abstain"].tolist() == [each["abstain"] for each in told]  # type: ignore[union-attr]
    assert found["complete"].tolist() == [each["complete"] for each in told]  # type: ignore[union-attr]
    bounds = np.array([each["lower_bound"] for each in told])
    assert found["lower_bound"] == pytest.approx(bounds, rel=1e-6)
    assert (np.asarray(found["lower_bound"]) <= bounds).all()
    assert found["probability"] == pytest.approx(np.array([each["mean_probabilities"] for each in told]), rel=1e-6)
    content = asked.json()
    assert (content["id"], content["model_name"], content["model_version"]) == ("a", "tiny", "1")
    repeated = {key: content["parameters"][key] for key in ("seed", "sigma", "noise", "votes", "reads", "variant")}
    assert repeated == {key: answer[key] for key in repeated}
    assert content["parameters"]["stop"] == "fixed"


@pytest.mark.parametrize("sent_binary", [False, True])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
async def test_bodies_may_be_binary_and_packed(tiny: httpx.AsyncClient, coding: str | None, sent_binary: bool) -> None:
    """JSON or binary tensors, as they are or packed as Triton's clients pack them: one answer."""
    content: dict[str, Any] = {"inputs": [INPUT], "parameters": OPTIONS}
    body, headers = binary(content) if sent_binary else (json.dumps(content).encode(), {})
    if coding is not None:
        body = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
        headers |= {"content-encoding": coding}
    found = outputs(await tiny.post(PATH, content=body, headers=headers))
    assert np.asarray(found["histogram"]).tolist() == await histograms_of_v1(tiny, **OPTIONS)


@pytest.mark.parametrize("sent_binary", [False, True])
@pytest.mark.parametrize(
    ("datatype", "inputs"),
    [
        ("FP64", INPUTS.astype(np.float64)),
        ("FP16", INPUTS.astype(np.float16)),
        ("UINT8", np.round(255 * INPUTS).astype(np.uint8)),
    ],
)
async def test_inputs_of_other_datatypes(
    tiny: httpx.AsyncClient, datatype: str, inputs: Any, sent_binary: bool
) -> None:
    """Floats are taken as they are, and UINT8 is scaled as /v1 scales it."""
    content = {"inputs": [tensor("input", datatype, inputs)], "parameters": OPTIONS}
    body, headers = binary(content) if sent_binary else (json.dumps(content).encode(), {})
    found = outputs(await tiny.post(PATH, content=body, headers=headers))
    if datatype == "UINT8":
        items = [{"b64": base64.b64encode(each.tobytes()).decode(), "dtype": "uint8"} for each in inputs]
        answer = await tiny.post(V1, json={"inputs": items, **OPTIONS})
        told = [prediction["histogram"] for prediction in answer.json()["predictions"]]
    else:
        told = await histograms_of_v1(tiny, inputs.astype(np.float64), **OPTIONS)
    assert np.asarray(found["histogram"]).tolist() == told


@pytest.mark.parametrize("sent_binary", [False, True])
async def test_image_files(tiny: httpx.AsyncClient, sent_binary: bool) -> None:
    """BYTES are PNG or JPEG files: as they are in binary, in base64 in JSON."""
    written = io.BytesIO()
    Image.fromarray(np.round(255 * INPUTS[0, 0]).astype(np.uint8)).save(written, "png")
    file = written.getvalue()
    in_base64 = base64.b64encode(file).decode()
    told = await tiny.post(V1, json={"inputs": [{"image": in_base64}], **OPTIONS})
    sent: dict[str, Any] = {"name": "input", "shape": [1], "datatype": "BYTES"}
    if sent_binary:
        raw = len(file).to_bytes(4, "little") + file
        head = json.dumps({"inputs": [sent | {"parameters": {"binary_data_size": len(raw)}}], "parameters": OPTIONS})
        response = await tiny.post(PATH, content=head.encode() + raw, headers={HEADER: str(len(head))})
    else:
        response = await tiny.post(PATH, json={"inputs": [sent | {"data": [in_base64]}], "parameters": OPTIONS})
    found = outputs(response)
    assert np.asarray(found["histogram"])[0].tolist() == told.json()["predictions"][0]["histogram"]


async def test_nested_data(tiny: httpx.AsyncClient) -> None:
    """JSON tensors may be nested in their shape."""
    nested = {"name": "input", "shape": list(INPUTS.shape), "datatype": "FP32", "data": INPUTS.tolist()}
    found = outputs(await tiny.post(PATH, json={"inputs": [nested], "parameters": OPTIONS}))
    assert np.asarray(found["histogram"]).tolist() == await histograms_of_v1(tiny, **OPTIONS)


async def test_a_raw_body_is_one_input(tiny: httpx.AsyncClient) -> None:
    """Header length 0: the body is the tensor, and the outputs are binary."""
    response = await tiny.post(PATH, content=INPUTS[1].tobytes(), headers={HEADER: "0"})
    assert response.headers["content-type"] == "application/octet-stream"
    assert np.asarray(outputs(response)["histogram"]).tolist() == await histograms_of_v1(tiny, INPUTS[1:2])
    short = await tiny.post(PATH, content=INPUTS[1].tobytes()[4:], headers={HEADER: "0"})
    assert (short.status_code, list(short.json())) == (422, ["error"])


async def test_outputs_are_those_that_were_requested(tiny: httpx.AsyncClient) -> None:
    """Only them, in their order, each in the form that it or the request wants."""
    wanted = [{"name": "votes_used"}, {"name": "label", "parameters": {"binary_data": False}}]
    parameters = OPTIONS | {"binary_data_output": True}
    response = await tiny.post(PATH, json={"inputs": [INPUT], "parameters": parameters, "outputs": wanted})
    length = int(response.headers[HEADER])
    first, second = json.loads(response.content[:length])["outputs"]
    assert (first["name"], first["parameters"]) == ("votes_used", {"binary_data_size": 24})
    assert (second["name"], "data" in second) == ("label", True)
    assert np.asarray(outputs(response)["votes_used"]).tolist() == [9, 9, 9]


@pytest.mark.parametrize("as_binary", [False, True])
async def test_classification(tiny: httpx.AsyncClient, as_binary: bool) -> None:
    """The largest values as value:index:label; the first of the histogram is the label, whatever is equal to it."""
    wanted = [
        {"name": name, "parameters": {"classification": 3, "binary_data": as_binary}}
        for name in ("histogram", "probability")
    ]
    content = {"inputs": [INPUT], "parameters": OPTIONS | {"votes": 4}, "outputs": wanted}
    found = outputs(await tiny.post(PATH, json=content))
    plain = outputs(await tiny.post(PATH, json=content | {"outputs": None}))
    for row in range(3):
        histogram, probability = np.asarray(plain["histogram"])[row], np.asarray(plain["probability"])[row]
        votes = found["histogram"][3 * row : 3 * row + 3]
        assert (
            votes[0] == f"{histogram.max()}:{np.asarray(plain['label'])[row]}:class {np.asarray(plain['label'])[row]}"
        )
        assert [int(each.split(":")[0]) for each in votes] == sorted(histogram.tolist(), reverse=True)[:3]
        order = np.argsort(-probability, kind="stable")[:3]
        told = [f"{probability[index]:f}:{index}:class {index}" for index in order]
        assert list(found["probability"][3 * row : 3 * row + 3]) == told


async def test_more_classes_than_there_are(tiny: httpx.AsyncClient) -> None:
    """All of them, and the shape says how many."""
    wanted = [{"name": "probability", "parameters": {"classification": 99}}]
    (output,) = (await tiny.post(PATH, json={"inputs": [INPUT], "outputs": wanted})).json()["outputs"]
    assert (output["shape"], output["datatype"], len(output["data"])) == ([3, CLASSES], "BYTES", 3 * CLASSES)


@pytest.mark.parametrize("sent_binary", [False, True])
async def test_options_of_each_input_are_its_own(tiny: httpx.AsyncClient, sent_binary: bool) -> None:
    """As parameters, as tensors, or not at all: each input has the histogram of /v1 for its options."""
    rng = random.Random(5 + sent_binary)
    for asked in (some_options(rng, inputs) for inputs in [1, 2, 3] * 20):
        content = {
            "inputs": [tensor("input", "FP32", INPUTS[: asked.inputs]), *asked.tensors],
            "parameters": asked.parameters,
        }
        body, headers = binary(content) if sent_binary else (json.dumps(content).encode(), {})
        response = await tiny.post(PATH, content=body, headers=headers)
        found = np.asarray(outputs(response)["histogram"])
        head = json.loads(response.content[: int(response.headers.get(HEADER, len(response.content)))])
        for index in range(asked.inputs):
            options = asked.as_v1(index, head["parameters"]["seed"])
            told = await histograms_of_v1(tiny, INPUTS[index : index + 1], **options)
            assert found[index].tolist() == told[0], (index, options)


async def test_a_timeout_is_a_deadline_in_microseconds(store: ModelStore) -> None:
    """What its votes have become by then is the answer."""
    async with serve(store, FakeEngine(CLASSES)) as client:
        twice = await client.post(PATH, json={"inputs": [INPUT], "parameters": {"timeout": 5, "deadline_ms": 5}})
        assert (twice.status_code, twice.json()["error"][:7]) == (422, "timeout")
        told = await client.post(PATH, json={"inputs": [INPUT], "parameters": {"timeout": 60_000_000}})
        assert np.asarray(outputs(told)["complete"]).all()


@pytest.mark.parametrize(
    ("accepted", "coding"), [("gzip, deflate", "gzip"), ("deflate", "deflate"), ("gzip;q=0", None)]
)
async def test_long_answers_are_packed_for_who_accepts_it(
    tiny: httpx.AsyncClient, accepted: str, coding: str | None
) -> None:
    """By Accept-Encoding; a client that does not ask for it gets the answer as it is."""
    many = tensor("input", "FP32", np.repeat(INPUTS, 20, axis=0))
    response = await tiny.post(PATH, json={"inputs": [many]}, headers={"accept-encoding": accepted})
    assert response.headers.get("content-encoding") == coding
    assert np.asarray(outputs(response)["label"]).shape == (60,)


async def test_pages_that_may_ask_may_send_binary_tensors(store: ModelStore) -> None:
    """An allowed origin may send the header that says where the tensors begin, and read that of the answer."""
    origin = "https://lab.example"
    async with serve_to(None, store, FakeEngine(CLASSES), insecure=True, allowed_origins=(origin,)) as client:
        wish = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": HEADER}
        assert (await client.options(PATH, headers=wish)).status_code == 200
        answer = await client.post(PATH, content=INPUTS[1].tobytes(), headers={HEADER: "0", "origin": origin})
        assert HEADER in answer.headers["access-control-expose-headers"]


async def test_a_long_binary_body_is_not_parsed(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its JSON object counts for the process that reads long bodies."""
    many = np.repeat(INPUTS, 900, axis=0)[:1024]
    body, headers = binary({"inputs": [tensor("input", "FP64", many)], "parameters": {"votes": 1}})
    assert len(body) > 2**18
    async with serve(store, FakeEngine(CLASSES)) as client:
        found = outputs(await client.post(PATH, content=body, headers=headers))
        before = _reading_process(client)
        parsed = await client.post(PATH, json={"inputs": [tensor("input", "FP64", many)], "parameters": {"votes": 1}})
        assert (before is None, _reading_process(client) is None) == (True, False)
        for each in (found, outputs(parsed)):
            assert np.asarray(each["votes_used"]).tolist() == [1] * 1024


def _reading_process(client: httpx.AsyncClient) -> int | None:
    transport: Any = client._transport
    process: int | None = transport.app.state.runtime._long_bodies.process_id
    return process
