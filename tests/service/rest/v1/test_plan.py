"""Plans over HTTP: what is refused, and what the answer says about a small model's table."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.rest.v1.plan_schemas import PlanResponse
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES, SHAPE
from tests.support.manifests import manifest, point, variant
from tests.support.serving import publish_tiny, serve

PATH = "/v1/models/tiny/plan"
JSON = {"content-type": "application/json"}
GOOD = {"sigma": 1.0, "accuracy": 0.7}
NAN = float("nan")

# Two votes of `votes` are as good as four reads of `reads`; both networks have 2 noisy layers.
VOTES = [point(s, a, v, images=10_000) for v, a in ((1, 0.6), (2, 0.8), (4, 0.9)) for s in (0.0, 1.0)]
READS = [point(s, a, v, images=10_000) for v in (1, 4) for s, a in ((0.0, 0.95), (0.5, 0.8), (1.0, 0.5))]


@pytest.fixture
async def client(store: ModelStore) -> AsyncIterator[httpx.AsyncClient]:
    """A server of `tiny`, and of `traded`, whose two variants are made for votes and for reads."""
    files = {"votes": b"one", "reads": b"other"}
    tables = {"votes": VOTES, "reads": READS}
    variants = tuple(variant(name, content, accuracy=tables[name]) for name, content in files.items())
    store.publish(manifest(files, "traded", variants=variants), files)
    async with serve(store, FakeEngine(CLASSES), max_votes=100, max_body_bytes=2000) as client:
        yield client


async def plan(client: httpx.AsyncClient, model: str = "traded", **body: Any) -> dict[str, Any]:
    """The answer to a request that must succeed."""
    response = await client.post(f"/v1/models/{model}/plan", json=body)
    assert response.status_code == 200, response.text
    PlanResponse.model_validate_json(response.content)
    return dict(response.json())


def ways(answer: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Variant, votes and reads of the plan and its runner-ups."""
    entries = [answer["plan"] or answer["nearest"], *answer["runner_ups"]]
    return [(entry["variant"], entry["votes"], entry["reads"]) for entry in entries]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"accuracy": 0.7}, "sigma: is missing; give sigma or snr_db"),
        (GOOD | {"sigma": -1}, "sigma: -1"),
        (GOOD | {"sigma": "1"}, "sigma: '1'"),
        (GOOD | {"sigma": NAN}, "sigma: nan"),
        (GOOD | {"snr_db": 6.0}, "snr_db: 6.0 beside sigma 1.0"),
        (GOOD | {"noise": "pink"}, "noise: 'pink'"),
        ({"sigma": 1.0}, "accuracy: is missing; give one goal: accuracy, products or layer_times"),
        (GOOD | {"accuracy": 0}, "accuracy: 0"),
        (GOOD | {"accuracy": 99.5}, "accuracy: 99.5"),
        (GOOD | {"accuracy": NAN}, "accuracy: nan"),
        (GOOD | {"products": 60}, "products: 60 beside accuracy 0.7; give one goal"),
        ({"sigma": 1.0, "products": 60, "layer_times": 25}, "layer_times: 25 beside products 60"),
        ({"sigma": 1.0, "products": 0}, "products: 0"),
        ({"sigma": 1.0, "products": 2.5}, "products: 2.5"),
        ({"sigma": 1.0, "layer_times": 0, "execution": "parallel"}, "layer_times: 0"),
        ({"sigma": 1.0, "layer_times": 25}, "execution: is missing; 25 layer_times are counted sequential"),
        ({"sigma": 1.0, "layer_times": 25, "execution": "fast"}, "execution: 'fast'"),
        (GOOD | {"execution": "parallel"}, "execution: 'parallel' without layer_times"),
        (GOOD | {"max_votes": 0}, "max_votes: 0"),
        (GOOD | {"max_votes": 101}, "max_votes: 101 is more than 100"),
        (GOOD | {"max_votes": 1001}, "max_votes: 1001"),
        (GOOD | {"max_reads": 0}, "max_reads: 0"),
        (GOOD | {"max_reads": 1001}, "max_reads: 1001"),
        (GOOD | {"variants": []}, "variants: []"),
        (GOOD | {"variants": "mul-0.0"}, "variants: 'mul-0.0'"),
        (GOOD | {"variants": ["mul-0.0", 8]}, "variants[1]: 8"),
        (GOOD | {"by": "hope"}, "by: 'hope'"),
        (GOOD | {"alpha": 0}, "alpha: 0"),
        (GOOD | {"alpha": 1}, "alpha: 1"),
        (GOOD | {"votes": 20}, "votes: unknown key (its value is 20)"),
    ],
    ids=str,
)
async def test_bad_values_are_named(client: httpx.AsyncClient, body: dict[str, Any], message: str) -> None:
    """422, the key, the value."""
    response = await client.post(PATH, content=json.dumps(body), headers=JSON)
    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] == "invalid_value"
    assert message in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/models/other/plan", GOOD, 404, "model: 'other' is not one of tiny, traded"),
        ("/v1/models/tiny/versions/2/plan", GOOD, 404, "version: '2' is not one of 1"),
        (PATH, GOOD | {"variants": ["mul-0.0", "mul-9"]}, 404, "variants[1]: 'mul-9' is not one of mul-0.0, mul-0.8"),
        (PATH, GOOD | {"variants": ["auto"]}, 404, "variants[0]: 'auto' is not one of"),
        (PATH, [GOOD], 400, "body: a JSON object is needed"),
        (PATH, GOOD | {"variants": ["mul-0.0"] * 500}, 413, "at most 2000 are read (NOISEVOTE_MAX_BODY"),
    ],
)
async def test_other_refusals_are_those_of_every_request(
    client: httpx.AsyncClient, path: str, body: object, status: int, message: str
) -> None:
    """Unknown names with what there is instead; bodies that are no object or too long."""
    response = await client.post(path, content=json.dumps(body), headers=JSON)
    assert response.status_code == status
    assert message in response.json()["error"]["message"]


@pytest.mark.parametrize("announced", [True, False])
async def test_a_question_is_never_longer_whatever_bodies_may_be(store: ModelStore, announced: bool) -> None:
    """Its refusal names no setting, since none changes that."""
    content = json.dumps(GOOD | {"variants": ["mul-0.0"] * 5000}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    async with serve(store, FakeEngine(CLASSES)) as client:
        answer = await client.post(PATH, content=content if announced else chunks(), headers=JSON)
    assert answer.status_code == 413
    size = str(len(content)) if announced else "more than 16384"
    assert answer.json()["error"]["message"] == f"body: {size} bytes; at most 16384 are read (no question is longer)"


async def test_a_refused_variant_is_not_planned(store: ModelStore) -> None:
    """By name it is 404 with the reason; without names the others are compared."""
    path = store.root / "tiny/1/mul-0.8.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    async with serve(store, FakeEngine(CLASSES)) as client:
        asked = await client.post(PATH, json=GOOD | {"variants": ["mul-0.8"]})
        assert asked.status_code == 404
        assert "variants[0]: 'mul-0.8' is refused" in asked.json()["error"]["message"]
        assert (await plan(client, "tiny", **GOOD))["searched"]["variants"] == ["mul-0.0"]


async def test_the_cheapest_plan_of_a_target_with_everything_known_about_it(client: httpx.AsyncClient) -> None:
    """Two votes of one network beat four reads of the other: 4 products against 8, both measured."""
    answer = await plan(client, sigma=1.0, accuracy=0.8)
    assert answer["feasible"]
    assert answer["goal"] == {"accuracy": 0.8}
    assert (answer["reason"], answer["nearest"]) == (None, None)
    chosen = answer["plan"]
    assert (chosen["variant"], chosen["votes"], chosen["reads"]) == ("votes", 2, 1)
    assert (chosen["accuracy"], chosen["known"]) == (0.8, "measured")
    assert chosen["standard_error"] == pytest.approx(0.004)
    assert chosen["lower_bound"] == pytest.approx(0.8 - 1.645 * 0.004, abs=2e-4)
    assert chosen["points"] == [{"sigma": 1.0, "votes": 2, "accuracy": 0.8, "images": 10_000, "spread": None}]
    assert chosen["analog_cost"] == {
        "products": 4,
        "latency_sequential": 4,
        "latency_pipelined": 3,
        "latency_parallel": 2,
    }
    assert ("reads", 1, 4) in ways(answer)
    assert answer["searched"] == {
        "variants": ["votes", "reads"],
        "votes": 4,
        "reads": 100,
        "known": 800,
        "outside": 0,
    }


async def test_a_target_that_only_the_estimate_reaches_is_not_assured(client: httpx.AsyncClient) -> None:
    """0.8 is feasible but not assured; judged by the lower bound, the plan is a costlier one, and assured."""
    assert (await plan(client, sigma=1.0, accuracy=0.8))["assured"] is False
    assert (await plan(client, sigma=1.0, accuracy=0.79))["assured"] is True
    strict = await plan(client, sigma=1.0, accuracy=0.8, by="lower_bound")
    assert strict["assured"] is True
    assert strict["plan"]["lower_bound"] >= 0.8
    assert strict["plan"]["analog_cost"]["products"] > 4


async def test_a_budget_takes_the_most_accurate_plan(client: httpx.AsyncClient) -> None:
    """4 votes for 8 products; 5 layer times in a pipeline of 2 layers are 4 runs, and parallel ones are free."""
    assert ways(await plan(client, sigma=1.0, products=8))[0] == ("votes", 4, 1)
    pipelined = await plan(client, sigma=1.0, layer_times=5, execution="pipelined", max_reads=1)
    assert ways(pipelined)[0] == ("votes", 4, 1)
    assert pipelined["goal"] == {"layer_times": 5, "execution": "pipelined"}
    assert pipelined["assured"] is None
    parallel = await plan(client, sigma=1.0, layer_times=2, execution="parallel")
    assert ways(parallel)[0] == ("reads", 1, 100)


async def test_bounds_and_names_limit_the_search(client: httpx.AsyncClient) -> None:
    """No plan uses more votes, more reads or other variants than were allowed."""
    answer = await plan(client, sigma=1.0, accuracy=0.9, variants=["reads"], max_reads=3, max_votes=2)
    assert not answer["feasible"]
    assert {name for name, _, _ in ways(answer)} == {"reads"}
    assert ways(answer)[0] == ("reads", 1, 3)
    assert (answer["searched"]["votes"], answer["searched"]["reads"]) == (2, 3)
    beyond = await plan(client, sigma=1.0, accuracy=0.9, max_votes=10)
    assert (beyond["searched"]["known"], beyond["searched"]["outside"]) == (800, 1200)


@pytest.mark.parametrize(
    ("body", "reason", "nearest"),
    [
        ({"accuracy": 0.99}, "accuracy: 0.99 is above the 0.9", ("reads", 1, 100)),
        ({"products": 1}, "products: 1 is below the 2 of the cheapest known plan", ("votes", 1, 1)),
        (
            {"layer_times": 1, "execution": "sequential"},
            "layer_times: 1 is below the 2 of the fastest known plan, sequential",
            ("votes", 1, 1),
        ),
    ],
)
async def test_a_goal_that_nothing_meets_is_answered_with_what_comes_nearest(
    client: httpx.AsyncClient, body: dict[str, Any], reason: str, nearest: tuple[str, int, int]
) -> None:
    """`plan` is null, so that nobody runs it by mistake; the reason names the key, its value and what there is."""
    answer = await plan(client, sigma=1.0, **body)
    assert (answer["feasible"], answer["plan"], answer["assured"]) == (False, None, None)
    assert answer["reason"].startswith(reason)
    assert ways(answer)[0] == nearest


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            {"sigma": 3.0, "max_reads": 8},
            "sigma: 3.0 with up to 8 reads and 4 votes lies outside of what is measured: "
            "sigma/√reads 0.0 … 1.0, votes 1 … 4",
        ),
        ({"sigma": 1.0, "noise": "additive"}, "noise: nothing is measured of votes, reads under additive noise"),
    ],
)
async def test_outside_of_the_tables_nothing_is_claimed(
    client: httpx.AsyncClient, body: dict[str, Any], reason: str
) -> None:
    """No plan, no estimate, and the answer says what is measured."""
    answer = await plan(client, accuracy=0.5, **body)
    assert (answer["feasible"], answer["plan"], answer["nearest"], answer["runner_ups"]) == (False, None, None, [])
    assert answer["reason"] == reason
    assert answer["searched"]["known"] == 0


async def test_a_hardly_worse_plan_for_less_is_shown(client: httpx.AsyncClient) -> None:
    """Within one standard error of the best accuracy there is a plan of fewer products."""
    answer = await plan(client, sigma=1.0, layer_times=2, execution="parallel")
    best, cheaper = answer["plan"], answer["cheaper"]
    assert cheaper["analog_cost"]["products"] < best["analog_cost"]["products"]
    assert cheaper["accuracy"] >= best["accuracy"] - best["standard_error"]
    assert (await plan(client, sigma=0.0, accuracy=0.5))["cheaper"] is None


async def test_snr_db_and_versions_are_taken_as_elsewhere(store: ModelStore) -> None:
    """0 dB is sigma 1; the newest version is planned unless another one is named."""
    publish_tiny(store, "2")
    async with serve(store, FakeEngine(CLASSES)) as client:
        answer = await plan(client, "tiny", snr_db=0.0, accuracy=0.7)
        older = await client.post("/v1/models/tiny/versions/1/plan", json=GOOD)
    assert (answer["sigma"], answer["version"]) == (1.0, "2")
    assert older.json() == answer | {"version": "1"}


async def test_a_plan_can_be_run_as_it_is(client: httpx.AsyncClient) -> None:
    """`predict` takes variant, votes and reads of a plan, and reports the same cost."""
    chosen = (await plan(client, "tiny", **GOOD))["plan"]
    body = {key: chosen[key] for key in ("variant", "votes", "reads")}
    inputs = [[[[0.5] * SHAPE[2]] * SHAPE[1]]]
    run = await client.post("/v1/models/tiny/predict", json={"inputs": inputs, "sigma": 1.0, **body})
    assert run.status_code == 200
    assert run.json()["analog_cost"] == chosen["analog_cost"]
