"""`"return": "votes"`: each vote of an answer, and all that repeats one."""

import asyncio
import re
from typing import Any

import httpx
import numpy as np
import pytest
from scipy import special

from noisevote.model_store.store import ModelStore
from noisevote.service.rest.v1.answer_schemas import PredictResponse
from tests.service.rest.v1.test_stream import streamed, without_timing
from tests.support.engines import FakeEngine, Slow, skip_ahead, until
from tests.support.graphs import CLASSES, SHAPE
from tests.support.serving import serve

PATH = "/v1/models/tiny/predict"
INPUTS = np.random.default_rng(8).random((3, *SHAPE)).tolist()
BODY: dict[str, Any] = {"inputs": INPUTS, "sigma": 0.7, "votes": 30, "seed": 5, "first_vote": 4, "return": "votes"}
# What of an answer is not asked for again.
TOLD = {"model", "version", "sha256", "operator", "predictions", "analog_cost", "timing_ms"}


async def predict(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """The answer to a request that must succeed."""
    response = await client.post(PATH, json=BODY | body)
    assert response.status_code == 200, response.text
    PredictResponse.model_validate_json(response.content)
    return dict(response.json())


@pytest.mark.parametrize("rule", ["fixed", "exact", "confidence"])
async def test_the_votes_are_those_that_were_counted(client: httpx.AsyncClient, rule: str) -> None:
    """Numbered from `first_vote`; their labels make the histogram, their softmax the mean probabilities."""
    answer = await predict(client, stop={"rule": rule})
    for prediction in answer["predictions"]:
        votes = prediction["votes"]
        assert [each["vote"] for each in votes] == list(range(4, 4 + prediction["votes_used"]))
        logits = np.array([each["logits"] for each in votes])
        assert logits.shape == (prediction["votes_used"], CLASSES)
        assert [each["index"] for each in votes] == logits.argmax(axis=1).tolist()
        assert [each["label"] for each in votes] == [f"class {each['index']}" for each in votes]
        counted = np.bincount([each["index"] for each in votes], minlength=CLASSES)
        assert counted.tolist() == prediction["histogram"]
        shares = special.softmax(logits, axis=1).mean(axis=0)
        np.testing.assert_allclose(prediction["mean_probabilities"], shares, atol=1e-6)


async def test_any_vote_can_be_computed_alone(client: httpx.AsyncClient) -> None:
    """One vote from `first_vote` on, of one input under its own seed: the same logits, to the last bit."""
    answer = await predict(client)
    for number, place in ((0, 0), (1, 17), (2, 29)):
        vote = answer["predictions"][number]["votes"][place]
        alone = {"inputs": INPUTS[number : number + 1], "seed": 5 + number, "first_vote": vote["vote"], "votes": 1}
        assert (await predict(client, **alone))["predictions"][0]["votes"] == [vote]


@pytest.mark.parametrize("stop", [{"rule": "fixed"}, {"rule": "exact"}, {"rule": "confidence", "delta": 0.2}])
async def test_an_answer_holds_all_that_repeats_it(
    client: httpx.AsyncClient, store: ModelStore, stop: dict[str, Any]
) -> None:
    """Sent back with the same inputs, to the version that it names, its keys give the same answer."""
    asked = {
        "inputs": INPUTS,
        "sigma": 0.4,
        "noise": "additive",
        "reads": 3,
        "votes": 25,
        "first_vote": 9,
        "alpha": 0.2,
    }
    answer = (await client.post(PATH, json=asked | {"stop": stop})).json()
    assert answer["stop"] == stop
    manifest = store.manifest(answer["model"], answer["version"])
    variant = manifest.variant(answer["variant"])
    assert variant is not None
    assert (answer["sha256"], answer["operator"]) == (variant.sha256, manifest.operator.version)
    again = {key: value for key, value in answer.items() if key not in TOLD}
    path = f"/v1/models/{answer['model']}/versions/{answer['version']}/predict"
    repeated = (await client.post(path, json={"inputs": INPUTS} | again)).json()
    assert without_timing(repeated) == without_timing(answer)


async def test_events_of_a_stream_hold_the_new_votes(client: httpx.AsyncClient) -> None:
    """None twice, each as in the answer, beside how all votes stand."""
    body = BODY | {"votes": 2000}
    *before, (_, answer) = await streamed(client, body, f"{PATH}/stream")
    assert before
    for number, prediction in enumerate(answer["predictions"]):
        told = [each for _, data in before for each in data["predictions"] if each["input"] == number]
        new = [vote for each in told for vote in each["votes"]]
        numbers = [vote["vote"] for vote in new]
        assert len(set(numbers)) == len(numbers) == told[-1]["votes_used"]
        assert new == [prediction["votes"][vote - 4] for vote in numbers]


async def test_at_a_deadline_only_what_was_counted_is_shown(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many votes as the histogram has, each with its own number."""
    engine = Slow(1, CLASSES)
    async with serve(store, engine, threads=1, batch_rows=8) as client:
        waiting = asyncio.create_task(client.post(PATH, json=BODY | {"deadline_ms": 60_000}))
        await until(lambda: len(engine.batches) == 2)
        skip_ahead(monkeypatch, 61)
        response = await waiting
        engine.may_run.set()
    PredictResponse.model_validate_json(response.content)
    predictions = response.json()["predictions"]
    assert [each["votes_used"] for each in predictions] == [3, 3, 2]
    for each in predictions:
        assert not each["complete"]
        assert [vote["vote"] for vote in each["votes"]] == [4 + number for number in range(each["votes_used"])]


async def test_more_logits_than_allowed_are_refused(store: ModelStore) -> None:
    """By key and number; a histogram of as many votes is not."""
    async with serve(store, FakeEngine(CLASSES), max_shown_logits=3 * 30 * CLASSES) as client:
        assert (await client.post(PATH, json=BODY)).status_code == 200
        refused = await client.post(PATH, json=BODY | {"votes": 31})
        assert refused.status_code == 422
        wanted = (
            rf"return: 'votes' of .* with {CLASSES} classes are {93 * CLASSES} logits, more than {90 * CLASSES} here"
        )
        assert re.fullmatch(wanted, refused.json()["error"]["message"])
        assert (await client.post(PATH, json=BODY | {"votes": 31, "return": "histogram"})).status_code == 200
