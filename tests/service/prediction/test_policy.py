"""Policies: every key and route is classified, and what is not listed is forbidden."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from noisevote.model_store.store import ModelStore
from noisevote.service.app import create_app
from noisevote.service.errors import ForbiddenError
from noisevote.service.open_inference.options import TIMEOUT, Options
from noisevote.service.prediction.handle import judged
from noisevote.service.prediction.options import PredictionRequest, VoteOptions
from noisevote.service.prediction.policy import Policy
from noisevote.service.prediction.policy_keys import ALIASES, KEYS
from noisevote.service.rest.v1 import front as v1
from noisevote.service.rest.v1.answer_schemas import LabelledInput
from noisevote.service.rest.v1.certify_schemas import CertifyBody
from noisevote.service.rest.v1.plan_schemas import PlanRequest
from noisevote.service.rest.v1.schemas import PredictRequest
from noisevote.service.rest.v1.stop_schemas import ConfidenceStop, ExactStop, FixedStop
from noisevote.service.rest.v2 import front as v2
from noisevote.service.settings import Settings
from noisevote.voting.stopping import Exact
from tests.service.rest.v1.test_stream import streamed
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES, SHAPE
from tests.support.serving import OPEN, publish_tiny, serve

# These say nothing of any model's votes.
ABOUT_THE_SERVER = {
    ("GET", path) for path in ("/", "/playground/{path:path}", "/healthz", "/readyz", "/metrics", "/docs",
                               "/openapi.json", "/static-offline-docs/{name}")
}  # fmt: skip
PATH = "/v1/models/tiny/predict"
OPEN_ROUTES = v1.OPEN_ROUTES | v2.OPEN_ROUTES
POLICED_ROUTES = {**v1.POLICED_ROUTES, **v2.POLICED_ROUTES}
INPUTS = np.random.default_rng(4).random((2, *SHAPE)).tolist()
HARD: dict[str, Any] = {
    "sigma": {"fixed": 0.5},
    "noise": {"fixed": "multiplicative"},
    "votes": {"fixed": 9},
    "return": {"fixed": "label"},
}
# A value of each key that differs from its default, as a request gives it.
OTHER: dict[str, Any] = {
    "sigma": 0.1, "snr_db": 6, "noise": "additive", "votes": 3, "reads": 1_000_000, "seed": 7, "first_vote": 5,
    "stop": {"rule": "exact"}, "alpha": 0.5, "deadline_ms": 5, "variant": "mul-0.0", "priority": 8,
    "return": "probabilities", "precision": "any", "top_k": 2, "preprocess": True,
}  # fmt: skip
PLANS: dict[str, Any] = {
    "sigma": 0.5, "snr_db": 6, "noise": "additive", "accuracy": 0.5, "products": 60, "layer_times": 60,
    "execution": "parallel", "max_votes": 7, "max_reads": 7, "variants": ["mul-0.8"], "by": "lower_bound",
    "alpha": 0.01,
}  # fmt: skip
CERTIFICATES: dict[str, Any] = {
    "n0": 7, "n": 70, "alpha": 0.01, "radius": 0.1, "rule": "anytime", "deadline_ms": 500, "variant": "mul-0.8",
}  # fmt: skip


def policy(**routes: Mapping[str, Any]) -> Policy:
    """A policy of these routes."""
    return Policy.model_validate(routes)


def routes_of(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Method and path of each route, also of included routers and of what the schema does not show."""
    for route in routes:
        if (included := getattr(route, "original_router", None)) is not None:
            yield from routes_of(included.routes)
        else:
            methods = set(getattr(route, "methods", None) or {"GET"}) - {"HEAD"}
            yield from ((method, route.path) for method in methods)


def names(body: type[BaseModel]) -> set[str]:
    """Keys of a body as a policy names them."""
    keys = {field.alias or name for name, field in body.model_fields.items()}
    return {ALIASES.get(key, key) for key in keys}


def asked(given_keys: frozenset[str] | None = frozenset(), **options: Any) -> PredictionRequest:
    """A request of one input."""
    return PredictionRequest(VoteOptions(**options), 1, lambda _: np.zeros((1, 1), np.float32), given_keys)


def written(folder: Path, policies: Mapping[str, Any], name: str = "policies.json") -> Path:
    """A file of policies."""
    (folder / name).write_text(json.dumps(policies))
    return folder / name


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """`tiny` in two versions, and `other`."""
    store = ModelStore(tmp_path / "models")
    publish_tiny(store)
    publish_tiny(store, version="2")
    publish_tiny(store, name="other")
    return store


def test_every_key_of_every_request_is_classified() -> None:
    """A new key of a schema fails here until the policy knows it; so does one that no schema has any more."""
    of_path = {"version", "stream", "rows"}
    stop = {"rule"}
    for body in (FixedStop, ExactStop, ConfidenceStop):
        assert set(body.model_fields) <= stop | {"delta"}
    assert names(PredictRequest) | of_path | {"delta"} == set(KEYS["predict"])
    # /v2 asks for outputs by name and for leading classes by `classification`, and its tensors are ready inputs.
    of_v1 = {"inputs", "return", "top_k", "preprocess"}
    assert names(Options) - {TIMEOUT} | of_path | of_v1 == set(KEYS["predict"])
    assert names(PlanRequest) | {"version"} == set(KEYS["plan"])
    assert names(CertifyBody) | of_path == set(KEYS["certify"])
    assert set(OTHER) | {"inputs"} == {field.alias or name for name, field in PredictRequest.model_fields.items()}
    assert set(PLANS) == set(PlanRequest.model_fields)
    assert set(CERTIFICATES) | {"inputs"} == set(CertifyBody.model_fields)


def test_every_route_is_classified(store: ModelStore) -> None:
    """A new route fails here until it is open on purpose, or stands under a policy."""
    app = create_app(Settings(model_store=store.root, threads=1), FakeEngine(CLASSES), access=OPEN)
    assert set(routes_of(app.routes)) == set(OPEN_ROUTES) | set(POLICED_ROUTES) | ABOUT_THE_SERVER
    assert not set(OPEN_ROUTES) & set(POLICED_ROUTES)


@pytest.mark.parametrize(("method", "path"), sorted(POLICED_ROUTES))
async def test_a_route_that_is_not_listed_is_forbidden(
    store: ModelStore, tmp_path: Path, method: str, path: str
) -> None:
    """Each route under a policy, under one that lists another route alone: 403 before its body is read."""
    route = POLICED_ROUTES[method, path]
    listed = {"plan": {"sigma": "free"}} if route != "plan" else {"predict": HARD}
    policies = written(tmp_path, {"tiny": listed})
    async with serve(store, FakeEngine(CLASSES), policies=policies) as client:
        refused = await client.request(method, path.format(name="tiny", version="1"), content=b"no JSON")
        told = refused.json()["error"]
        assert (refused.status_code, path.startswith("/v2")) == (403, isinstance(told, str))
        assert (told if isinstance(told, str) else told["message"]).startswith(f"route: {route}")


@pytest.mark.parametrize("key", sorted(OTHER))
async def test_a_key_that_is_not_listed_is_forbidden(store: ModelStore, tmp_path: Path, key: str) -> None:
    """Every key of predict by HTTP: 403 naming it, and nothing is computed; so it is for a fixed key's other value."""
    engine = FakeEngine(CLASSES)
    async with serve(store, engine, policies=written(tmp_path, {"tiny": {"predict": HARD}})) as client:
        refused = await client.post(PATH, json={"inputs": INPUTS[:1], key: OTHER[key]})
        assert refused.status_code == 403
        assert ALIASES.get(key, key) in refused.json()["error"]["message"]
        assert not engine.batches
        assert (await client.post("/v1/models/other/predict", json={"inputs": INPUTS})).status_code == 200


@pytest.mark.parametrize("key", sorted(PLANS))
async def test_a_key_of_a_plan_that_is_not_listed_is_forbidden(store: ModelStore, tmp_path: Path, key: str) -> None:
    """Every key of plan by HTTP."""
    async with serve(store, FakeEngine(CLASSES), policies=written(tmp_path, {"tiny": {"plan": {}}})) as client:
        refused = await client.post("/v1/models/tiny/plan", json={key: PLANS[key]})
        assert refused.status_code == 403
        assert ALIASES.get(key, key) in refused.json()["error"]["message"]


@pytest.mark.parametrize("key", sorted(CERTIFICATES))
async def test_a_key_of_a_certificate_that_is_not_listed_is_forbidden(
    store: ModelStore, tmp_path: Path, key: str
) -> None:
    """Every key of certify by HTTP."""
    async with serve(store, FakeEngine(CLASSES), policies=written(tmp_path, {"tiny": {"certify": {}}})) as client:
        refused = await client.post("/v1/models/tiny/certify", json={"inputs": INPUTS[:1], key: CERTIFICATES[key]})
        assert refused.status_code == 403
        assert key in refused.json()["error"]["message"]


async def test_old_versions_and_streams_are_forbidden(store: ModelStore, tmp_path: Path) -> None:
    """Where they are not listed; a fixed version is what the path without one gives."""
    policies = written(tmp_path, {"tiny": {"predict": HARD}, "other": {"predict": HARD | {"version": {"fixed": "1"}}}})
    async with serve(store, FakeEngine(CLASSES), policies=policies) as client:
        body = {"inputs": INPUTS[:1]}
        for path in ("/v1/models/tiny/versions/1/predict", f"{PATH}/stream"):
            assert (await client.post(path, json=body)).status_code == 403
        assert (await client.post(PATH, json=body)).json()["version"] == "2"
        for path in ("/v1/models/other/predict", "/v1/models/other/versions/1/predict"):
            assert (await client.post(path, json=body)).json()["version"] == "1"
        refused = await client.post("/v1/models/other/versions/2/predict", json=body)
        assert refused.json()["error"]["message"] == "version: '2'; this model's policy fixes '1'"


async def test_with_the_label_nothing_else_depends_on_the_votes(store: ModelStore, tmp_path: Path) -> None:
    """Two requests whose votes differ get the same answer but for their labels; a drawn seed is not shown either."""
    async with serve(store, policies=written(tmp_path, {"tiny": {"predict": HARD}})) as client:
        answers = [(await client.post(PATH, json={"inputs": [each]})).json() for each in INPUTS for _ in range(5)]
        for answer in answers:
            (prediction,) = answer.pop("predictions")
            assert set(prediction) == set(LabelledInput.model_fields) == {"label", "index"}
        assert all(answer == answers[0] for answer in answers)
        asked = {"first_vote", "sigma", "noise", "votes", "reads", "stop", "alpha"}
        assert set(answers[0]) == {"model", "version", "variant", "sha256", "operator", "analog_cost"} | asked
        assert answers[0]["analog_cost"]["products"] == 9 * 2
        assert (answers[0]["sigma"], answers[0]["votes"]) == (0.5, 9)


async def test_a_stream_of_labels_shows_the_answer_alone(store: ModelStore, tmp_path: Path) -> None:
    """No event tells how the votes stand meanwhile."""
    rules = HARD | {"stream": "free", "votes": {"fixed": 2000}}
    async with serve(store, policies=written(tmp_path, {"tiny": {"predict": rules}})) as client:
        ((name, answer),) = await streamed(client, {"inputs": INPUTS[:1]}, f"{PATH}/stream")
        assert (name, set(answer["predictions"][0])) == ("answer", {"label", "index"})


async def test_return_is_a_key_of_free_models_too(client: httpx.AsyncClient) -> None:
    """Everything by default; less where less is asked for; and the same votes in any case."""
    body = {"inputs": INPUTS, "sigma": 0.5, "seed": 3}
    shown = {each: (await client.post(PATH, json=body | {"return": each})).json() for each in
             ("label", "histogram", "probabilities", "votes")}  # fmt: skip
    everything = (await client.post(PATH, json=body)).json()
    assert shown["probabilities"]["predictions"] == everything["predictions"]
    for each_vote, full, votes, label in zip(*(shown[each]["predictions"] for each in reversed(shown)), strict=True):
        assert full == {key: value for key, value in each_vote.items() if key != "votes"}
        assert votes == {key: value for key, value in full.items() if key != "mean_probabilities"}
        assert label == {"label": full["label"], "index": full["index"]}
    assert shown["label"]["seed"] == 3  # it was given
    assert "timing_ms" not in shown["label"]
    assert (await client.post(PATH, json=body | {"return": "all"})).status_code == 422


@pytest.mark.parametrize(("reads", "sigma"), [(1, 0.5), (4, 1.0), (9, 1.65)])
@pytest.mark.parametrize("factor", [1, 0, 0.9, 1.3])
def test_sigma_is_judged_after_reads(reads: int, sigma: float, factor: float) -> None:
    """sigma/√reads has to lie within the bounds: a million reads do not turn 0.5 into 0.0005."""
    bounded = {"least": 0.5, "most": 0.6, "default": 0.5}
    rules = HARD | {"sigma": bounded, "reads": "free"}
    request = asked(frozenset({"sigma", "reads"}), sigma=factor * sigma, reads=reads)
    many = asked(frozenset({"sigma", "reads"}), sigma=sigma, reads=1_000_000)
    if factor == 1:
        options = policy(predict=rules).prediction(request).options
        assert (options.sigma, options.reads) == (sigma, reads)
    else:
        for each in (request, many):
            with pytest.raises(ForbiddenError, match="sigma/√reads"):
                policy(predict=rules).prediction(each)


@given(st.integers(1, 300), st.floats(0.01, 0.5))
def test_a_fixed_sigma_is_what_reads_leave(reads: int, sigma: float) -> None:
    """Whatever number of reads a request may choose, the noise after them is the policy's."""
    rules = HARD | {"sigma": {"fixed": sigma}, "reads": "free"}
    options = policy(predict=rules).prediction(asked(frozenset({"reads"}), reads=reads)).options
    assert options.sigma / math.sqrt(reads) == pytest.approx(sigma)
    again = policy(predict=rules).prediction(asked(frozenset({"reads", "sigma"}), reads=reads, sigma=options.sigma))
    assert again.options.sigma == options.sigma


def test_a_path_always_says_whether_it_streams() -> None:
    """A policy may leave the stream alone, or nothing but the stream."""
    only = policy(predict=HARD | {"stream": {"fixed": True}})
    assert only.version("predict", None, stream=True) is None
    with pytest.raises(ForbiddenError, match="stream: False"):
        only.version("predict", None)


def test_inputs_times_votes_are_bounded() -> None:
    """One input unless the policy says more, and their votes together."""
    rules = HARD | {"inputs": {"most": 8}, "votes": {"most": 20}, "rows": {"most": 40}}
    several = PredictionRequest(VoteOptions(votes=20), 3, lambda _: np.zeros((1, 1), np.float32), frozenset({"votes"}))
    with pytest.raises(ForbiddenError, match="inputs: 3"):
        policy(predict=HARD).prediction(several)
    with pytest.raises(ForbiddenError, match="inputs × votes: 60; this model's policy allows at most 40"):
        policy(predict=rules).prediction(several)


def test_a_protocol_that_does_not_tell_what_was_given_is_judged_by_values() -> None:
    """What differs from its default counts as given; everything else becomes what the policy says."""
    options = policy(predict=HARD).prediction(asked(None)).options
    assert (options.sigma, options.votes, options.returns) == (0.5, 9, "label")
    for change in ({"seed": 1}, {"reads": 2}, {"sigma": 0.1}, {"rule": Exact()}, {"deadline_ms": 1.0}):
        with pytest.raises(ForbiddenError):
            policy(predict=HARD).prediction(asked(None, **change))


def test_a_key_that_the_policy_does_not_know_is_forbidden() -> None:
    """One that a protocol got and the policy did not."""
    with pytest.raises(ForbiddenError, match="brand_new"):
        policy(predict=HARD).prediction(asked(frozenset({"brand_new"})))


async def test_a_policy_of_no_model_serves_nothing(store: ModelStore, tmp_path: Path) -> None:
    """Misspelt, it would leave the model that is meant without any."""
    async with serve(store, FakeEngine(CLASSES), policies=written(tmp_path, {"tniy": {"predict": HARD}})) as client:
        refused = await client.post(PATH, json={"inputs": INPUTS})
        assert refused.status_code == 503
        assert "policies: tniy is not served" in refused.json()["error"]["message"]


async def test_models_show_their_policy(store: ModelStore, tmp_path: Path) -> None:
    """As it was written; null where everything is free."""
    async with serve(store, FakeEngine(CLASSES), policies=written(tmp_path, {"tiny": {"predict": HARD}})) as client:
        listed = {each["name"]: each["policy"] for each in (await client.get("/v1/models")).json()["models"]}
        assert listed == {"tiny": {"predict": HARD}, "other": None}
        assert (await client.get("/v1/models/tiny")).json()["policy"] == {"predict": HARD}


def test_a_protocol_that_knows_of_less_shows_less() -> None:
    """Where a policy shows each vote it shows what it can; where all that it can show is too much it is refused."""
    votes = policy(predict=HARD | {"return": {"fixed": "votes"}})
    assert judged(votes, ("label", "probabilities"), asked(frozenset())).options.returns == "probabilities"
    with pytest.raises(ForbiddenError, match="'label' is all that may be shown"):
        judged(policy(predict=HARD), ("histogram", "probabilities"), asked(frozenset()))


async def test_leading_classes_are_no_way_around_the_label_alone(store: ModelStore, tmp_path: Path) -> None:
    """Where a policy shows the label alone, `top_k` is refused, even if it is listed."""
    policies = written(tmp_path, {"tiny": {"predict": {**HARD, "top_k": "free"}}})
    async with serve(store, FakeEngine(CLASSES), policies=policies) as client:
        body = {"inputs": np.zeros((1, *SHAPE)).tolist(), "top_k": 2}
        refused = await client.post("/v1/models/tiny/predict", json=body)
    assert (refused.status_code, refused.json()["error"]["message"][:5]) == (403, "top_k")
