"""Plans for the published model, and what comes of running them."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.rest.v1.plan_schemas import PlanRequest
from noisevote.service.settings import Settings

ROOT = Path(__file__).parents[2]
STORE = ModelStore(Settings.model_fields["model_store"].default)
DIGITS = np.load(ROOT / "tests" / "data" / "mnist_digits.npz")
INPUTS = [(image[np.newaxis] / 255).tolist() for image in DIGITS["images"]]
MODEL = "/v1/models/mnist-cnn"
MARK = "<!-- example: tests/end_to_end/test_planning.py"
(CONFIG,) = [PlanRequest.model_config["json_schema_extra"]]
assert isinstance(CONFIG, dict)
EXAMPLES: Any = CONFIG["examples"]


async def plan(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """The answer to a request that must succeed."""
    response = await client.post(f"{MODEL}/plan", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def assert_holds(found: Any, documented: Any) -> None:
    """Everything that is documented is in the answer, numbers to the digits that are shown."""
    if isinstance(documented, dict):
        assert documented.keys() <= found.keys()
        for key, value in documented.items():
            assert_holds(found[key], value)
    elif isinstance(documented, list):
        assert len(found) == len(documented)
        for one, other in zip(found, documented, strict=True):
            assert_holds(one, other)
    elif isinstance(documented, float):
        assert found == pytest.approx(documented, abs=1e-6)
    else:
        assert found == documented


async def test_the_documented_plan_is_the_answer(client: httpx.AsyncClient) -> None:
    """The request and the answer in docs/api.md; only the runner-ups are shortened there."""
    text = (ROOT / "docs" / "api.md").read_text()
    blocks = re.search(r"```sh\n(.*?)```.*?```json\n(.*?)```", text[text.index(MARK) :], re.DOTALL)
    assert blocks is not None
    path, body = re.findall(r"8000(\S+) .*-d '(.*)'", blocks[1], re.DOTALL)[0]
    response = await client.post(path, json=json.loads(body))
    documented = json.loads(blocks[2])
    assert_holds(response.json(), documented)
    assert response.json().keys() == documented.keys()
    assert response.json()["plan"].keys() == documented["plan"].keys()


@pytest.mark.parametrize("body", EXAMPLES, ids=str)
async def test_every_example_of_the_schema_is_feasible(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    """What /docs offers to try gives a plan that keeps its goal."""
    answer = await plan(client, **body)
    assert answer["feasible"]
    cost = answer["plan"]["analog_cost"]
    assert answer["plan"]["accuracy"] >= body.get("accuracy", 0)
    assert cost["products"] <= body.get("products", cost["products"])
    assert cost["latency_pipelined"] <= body.get("layer_times", cost["latency_pipelined"])


@pytest.mark.parametrize(("noise", "sigma"), [("multiplicative", 0.5), ("multiplicative", 1.0), ("additive", 0.8)])
async def test_a_plan_runs_as_it_is_and_is_what_auto_would_take(
    client: httpx.AsyncClient, noise: str, sigma: float
) -> None:
    """With the plan's votes and reads `auto` takes the plan's variant; 99 % planned miss at most 3 of 64 digits."""
    chosen = (await plan(client, sigma=sigma, noise=noise, accuracy=0.99))["plan"]
    run = {"inputs": INPUTS, "sigma": sigma, "noise": noise, "votes": chosen["votes"], "reads": chosen["reads"]}
    auto = (await client.post(f"{MODEL}/predict", json=run | {"seed": 1})).json()
    named = (await client.post(f"{MODEL}/predict", json=run | {"seed": 1, "variant": chosen["variant"]})).json()
    assert auto["variant"] == named["variant"] == chosen["variant"]
    assert auto["predictions"] == named["predictions"]
    assert named["analog_cost"] == chosen["analog_cost"]
    decided = np.array([prediction["index"] for prediction in named["predictions"]])
    assert (decided == DIGITS["labels"]).sum() >= 61


async def test_reads_make_plans_beyond_the_measured_noise(client: httpx.AsyncClient) -> None:
    """Sigma 3 is far outside of the table; nine reads and more bring it inside, and fewer are counted as outside."""
    answer = await plan(client, sigma=3.0, accuracy=0.99)
    assert answer["feasible"]
    assert answer["plan"]["reads"] >= 9
    assert answer["searched"]["outside"] > 0
    assert not (await plan(client, sigma=3.0, accuracy=0.99, max_reads=2))["feasible"]


async def test_a_perfect_accuracy_is_not_promised(client: httpx.AsyncClient) -> None:
    """Nothing reaches 1; the answer says what the best known plan has."""
    answer = await plan(client, sigma=0.8, accuracy=1)
    assert not answer["feasible"]
    assert answer["reason"].startswith("accuracy: 1.0 is above the 0.99")
    assert answer["nearest"]["accuracy"] < 1
