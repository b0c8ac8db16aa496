"""Files of policies: what is refused, and the example of docs/policy.md, which makes the endpoint that it promises."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.prediction.policy import PolicyFileError, read_policies
from tests.support.graphs import SHAPE
from tests.support.serving import publish_tiny, serve

DOCUMENT = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
PATH = "/v1/models/mnist-cnn/predict"
INPUT = np.random.default_rng(4).random(SHAPE).tolist()
HARD: dict[str, Any] = {
    "sigma": {"fixed": 0.5},
    "noise": {"fixed": "multiplicative"},
    "votes": {"fixed": 9},
    "return": {"fixed": "label"},
}
# What breaks a defence by noise, as attackers would ask for it.
ATTACKS: list[dict[str, Any]] = [
    {"sigma": 0},
    {"sigma": 0.001},
    {"snr_db": 100},
    {"noise": "additive"},
    {"votes": 1000},
    {"votes": 1},
    {"reads": 1_000_000},
    {"seed": 7},
    {"first_vote": 9},
    {"deadline_ms": 1},
    {"stop": {"rule": "exact"}},
    {"variant": "mul-0.0"},
    {"alpha": 0.5},
    {"priority": 8},
    {"return": "probabilities"},
    {"return": "histogram"},
]


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """The example, as it stands in the document."""
    found = re.search(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found is not None
    assert len(found[1].splitlines()) == 5
    (tmp_path / "policies.toml").write_text(found[1])
    return tmp_path / "policies.toml"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A small network under the example's name."""
    store = ModelStore(tmp_path / "models")
    publish_tiny(store, name="mnist-cnn")
    return store


async def test_five_lines_make_a_hardened_endpoint(store: ModelStore, policies: Path) -> None:
    """A plain request gets a label under the policy's noise; whatever would weaken it gets 403, on every path."""
    async with serve(store, policies=policies) as client:
        answer = (await client.post(PATH, json={"inputs": [INPUT]})).json()
        assert (answer["sigma"], answer["noise"], answer["votes"], answer["reads"]) == (0.5, "multiplicative", 9, 1)
        assert [set(each) for each in answer["predictions"]] == [{"label", "index"}]
        for attack in ATTACKS:
            assert await _status(client, PATH, {"inputs": [INPUT], **attack}) == 403, attack
        assert await _status(client, PATH, {"inputs": [INPUT, INPUT]}) == 403
        for path in (f"{PATH}/stream", "/v1/models/mnist-cnn/versions/1/predict", "/v1/models/mnist-cnn/certify"):
            assert await _status(client, path, {"inputs": [INPUT]}) == 403, path
        assert await _status(client, "/v1/models/mnist-cnn/plan", {"sigma": 0.5, "accuracy": 0.9}) == 403


async def test_the_message_is_the_documents(store: ModelStore, policies: Path) -> None:
    """It names the key, the value and what is allowed."""
    async with serve(store, policies=policies) as client:
        refused = await client.post(PATH, json={"inputs": [INPUT], "sigma": 0})
        message = refused.json()["error"]["message"]
        assert f"`{message}`" in DOCUMENT


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ({"predict": {"noise": "free", "votes": "free", "return": "free"}}, "says nothing of sigma"),
        ({"predict": HARD | {"stop": "free"}}, "its time tells the margin"),
        ({"predict": HARD | {"return": {"one_of": ["label", "histogram"]}, "stop": {"fixed": "exact"}}}, "margin"),
        ({"predict": HARD | {"sgima": "free"}}, "predict.sgima: is no key"),
        ({"predict": HARD | {"votes": {"fixed": 0}}}, "predict.votes: 0 is not in 1"),
        ({"predict": HARD | {"votes": {"fixed": 2.5}}}, "2.5 is no integer"),
        ({"predict": HARD | {"votes": {"most": 10}}}, "needs a default inside at most 10"),
        ({"predict": HARD | {"votes": {"most": 10, "one_of": [3]}}}, "least and most, one of them, or one_of"),
        ({"predict": HARD | {"noise": {"fixed": "pink"}}}, "'pink' is not one of"),
        ({"predict": HARD | {"sigma": {"fixed": True}}}, "True is no number"),
        ({"predict": HARD | {"seed": "fixed"}}, "predict.seed"),
        ({"plan": {"variants": {"fixed": "a"}}}, "only 'free' can be said of it"),
        ({"explain": {}}, "explain"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(tmp_path: Path, routes: dict[str, Any], words: str) -> None:
    """When the file is read, naming the model, the route and the key."""
    file = tmp_path / "policies.json"
    file.write_text(json.dumps({"tiny": routes}))
    with pytest.raises(PolicyFileError) as refused:
        read_policies(file)
    assert words in str(refused.value)
    assert "tiny" in str(refused.value)


async def _status(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> int:
    return (await client.post(path, json=body)).status_code
