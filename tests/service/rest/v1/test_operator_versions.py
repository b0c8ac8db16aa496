"""Variants of both versions of the operator, served side by side."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest

from noisevote.client.calls import read_answer
from noisevote.client.replay import compared
from noisevote.evaluation.replay import cast_again
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.onnx_versions import draw_with
from tests.support import smoothed
from tests.support.graphs import CLASSES, SHAPE, tiny_network
from tests.support.manifests import manifest, variant
from tests.support.serving import serve

INPUTS = np.random.default_rng(8).random((3, *SHAPE)).astype(np.float32)
BODY: dict[str, Any] = {"inputs": INPUTS.tolist(), "sigma": 0.7, "votes": 30, "seed": 5, "return": "votes"}


def of_version_2(content: bytes) -> bytes:
    """The same file, drawing with version 2."""
    model = onnx.load_from_string(content)
    draw_with(model, 2)
    return bytes(model.SerializeToString())


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """`both`, a network with either version, and `smooth`, which says that it certifies with either."""
    store = ModelStore(tmp_path / "models")
    files = {"one": tiny_network(), "two": of_version_2(tiny_network())}
    variants = [variant(name, files[name], operator_version=2 if name == "two" else None) for name in files]
    classes = tuple(map(str, range(CLASSES)))
    store.publish(manifest(files, "both", shape=SHAPE, classes=classes, variants=tuple(variants)), files)
    certifying = {"slow": smoothed.smoothed_network(), "fast": of_version_2(smoothed.smoothed_network())}
    able = tuple(
        variant(name, content, noise="additive", certifies=smoothed.SIGMA, operator_version=2 if name == "fast" else 1)
        for name, content in certifying.items()
    )
    store.publish(manifest(certifying, "smooth", shape=smoothed.SHAPE, variants=able), certifying)
    return store


@pytest.fixture
async def client(store: ModelStore) -> AsyncIterator[httpx.AsyncClient]:
    """A client of both models, on the kernel."""
    async with serve(store) as client:
        yield client


async def test_answers_say_the_version_and_repeat(client: httpx.AsyncClient, store: ModelStore, tmp_path: Path) -> None:
    """Each variant draws as its version does, says so, and its votes are cast again to the last bit."""
    np.save(tmp_path / "inputs.npy", INPUTS)
    answers = []
    for name, version in (("one", 1), ("two", 2)):
        answer = (await client.post("/v1/models/both/predict", json=BODY | {"variant": name})).json()
        assert answer["operator"] == version
        again = read_answer(cast_again(answer, [tmp_path / "inputs.npy"], store.root, kernel=True))
        found = compared(read_answer(json.dumps(answer).encode()), again)
        assert (found.outcome, found.differences) == ("same to the last bit", ())
        answers.append([vote["logits"] for vote in answer["predictions"][0]["votes"]])
    assert not np.isclose(answers[0], answers[1]).any()


async def test_the_manifest_says_which_variant_draws_otherwise(client: httpx.AsyncClient) -> None:
    """The model's version of the operator counts where a variant names none."""
    told = (await client.get("/v1/models/both")).json()
    assert told["manifest"]["operator"]["version"] == 1
    assert [each["operator_version"] for each in told["manifest"]["variants"]] == [None, 2]


async def test_version_2_certifies_nothing(client: httpx.AsyncClient) -> None:
    """A file that draws with version 2 and says that it certifies is refused by name; the other one certifies."""
    told = (await client.get("/v1/models/smooth")).json()
    assert told["variants"] == ["slow"]
    assert "draws with operator version 2; version 1 alone certifies" in told["refused"]["fast"]
    body = {"inputs": np.zeros((1, *smoothed.SHAPE)).tolist(), "n0": 10, "n": 100}
    answer = (await client.post("/v1/models/smooth/certify", json=body)).json()
    assert (answer["variant"], answer["operator"]) == ("slow", 1)
    refused = await client.post("/v1/models/smooth/certify", json=body | {"variant": "fast"})
    assert refused.status_code >= 400
    assert "draws with operator version 2" in refused.json()["error"]["message"]
