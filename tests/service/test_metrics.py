import asyncio
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from noisevote.model_store.store import ModelStore
from noisevote.service.app import create_app
from noisevote.service.metrics import Metrics
from noisevote.service.prediction.accounting import RequestRecord, VoteAccount
from noisevote.service.settings import Settings
from tests.support.engines import FakeEngine, Slow, skip_ahead, until
from tests.support.graphs import CLASSES, SHAPE
from tests.support.scraping import KEY, Scrape, answered, request, shown
from tests.support.serving import OPEN, serve

PATH = "/v1/models/tiny/predict"


INPUTS = np.random.default_rng(3).random((2, *SHAPE)).tolist()


BODY: dict[str, Any] = {"inputs": INPUTS, "seed": 1, "variant": "mul-0.8"}


OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


LABELS = {"model": "tiny", "version": "1", "variant": "mul-0.8"}


async def scrape(client: httpx.AsyncClient) -> Scrape:
    """What `/metrics` says now."""
    return Scrape((await client.get("/metrics")).text)


async def predict(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """The answer to a request of two inputs that must succeed."""
    response = await client.post(PATH, json=BODY | body)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_the_exposition_is_prometheus_text_or_openmetrics(client: httpx.AsyncClient) -> None:
    """Each parses as what its content type says, with the same names."""
    await predict(client)
    text, openmetrics = await client.get("/metrics"), await client.get("/metrics", headers=OPENMETRICS)
    assert text.headers["content-type"].startswith("text/plain; version=")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = [
        {sample.name for family in parse(answer.text) for sample in family.samples}
        for parse, answer in ((parse_text, text), (parse_openmetrics, openmetrics))
    ]
    assert "noisevote_request_duration_seconds_bucket" in names[0]
    assert names[0] == names[1]


@pytest.mark.parametrize("stop", [{"rule": "fixed"}, {"rule": "exact"}, {"rule": "confidence", "delta": 0.2}])
async def test_votes_saved_are_the_budget_less_the_votes_in_the_answers(
    client: httpx.AsyncClient, stop: dict[str, Any]
) -> None:
    """To the vote, counted under the rule that saved them and under no other."""
    answers = [await predict(client, stop=stop, sigma=sigma, votes=30) for sigma in (0.0, 0.5, 2.0)]
    used = sum(prediction["votes_used"] for answer in answers for prediction in answer["predictions"])
    budget = len(answers) * 2 * 30
    assert (used < budget) == (stop["rule"] != "fixed")
    after = await scrape(client)
    assert after.sum("votes_asked_total", **LABELS, rule=stop["rule"]) == budget
    assert after.sum("votes_cast_total", **LABELS, rule=stop["rule"]) == used
    assert after.sum("votes_saved_total", **LABELS, rule=stop["rule"]) == budget - used
    assert after.sum("votes_asked_total") == budget
    assert after.sum("votes_dropped_total") == 0


async def test_answers_are_counted_as_they_are_given(client: httpx.AsyncClient) -> None:
    """Requests, predictions and abstentions of a variant, its rows in batches, and one duration a request."""
    answers = [await predict(client, sigma=sigma, votes=7) for sigma in (0.0, 0.0, 0.5, 3.0, 3.0)]
    abstentions = sum(prediction["abstain"] for answer in answers for prediction in answer["predictions"])
    assert 0 < abstentions < 10
    after = await scrape(client)
    assert after.sum("requests_total", **LABELS, code="ok") == after.sum("requests_total") == 5
    assert after.sum("predictions_total", **LABELS) == after.sum("predictions_total") == 10
    assert after.sum("abstentions_total", **LABELS) == abstentions
    assert after.sum("incomplete_predictions_total") == 0
    assert after.sum("request_duration_seconds_count", **LABELS) == 5
    assert after.sum("queue_duration_seconds_count", **LABELS) == 5
    assert after.sum("batch_rows_sum", **LABELS) == 5 * 2 * 7
    assert after.sum("batch_rows_count", **LABELS) == after.sum("batch_duration_seconds_count", **LABELS) >= 5
    assert after.sum("batches_failed_total") == 0


async def test_nothing_that_a_client_sends_becomes_a_label(client: httpx.AsyncClient) -> None:
    """Unknown models, versions and variants are counted, under empty names."""
    for path, body in (
        ("/v1/models/secret/predict", BODY),
        ("/v1/models/secret/versions/secret/predict", BODY),
        ("/v1/models/tiny/versions/secret/predict", BODY),
        (PATH, BODY | {"variant": "secret"}),
        (PATH, {"secret": 1}),
    ):
        assert (await client.post(path, json=body)).status_code in {404, 422}
    exposition = (await client.get("/metrics")).text
    assert "secret" not in exposition
    after = Scrape(exposition)
    nobody, tiny = {"model": "", "version": "", "variant": ""}, {"model": "tiny", "version": "1", "variant": ""}
    assert after.sum("requests_total", **nobody, code="unknown_model") == 2
    assert after.sum("requests_total", **nobody, code="unknown_version") == 1
    assert after.sum("requests_total", **tiny, code="unknown_variant") == 1
    assert after.sum("requests_total", **tiny, code="invalid_value") == 1
    assert after.total("votes_asked_total") == 0


async def test_a_variant_is_shown_in_full_from_its_first_request_on(client: httpx.AsyncClient) -> None:
    """Before, its requests alone, at zero: most of many variants are never asked for, and each has a hundred lines."""
    first = await scrape(client)
    for variant in ("mul-0.0", "mul-0.8"):
        (sample,) = first.of("requests_total", model="tiny", version="1", variant=variant)
        assert (sample.labels["code"], sample.value) == ("ok", 0)
        assert len([each for each in first.samples if each.labels.get("variant") == variant]) == 1
    assert first.sum("requests_total", code="queue_full") == 0
    assert first.sum("ready") == 1
    await predict(client)
    after = await scrape(client)
    assert len([each for each in after.samples if each.labels.get("variant") == "mul-0.8"]) > 70
    assert len([each for each in after.samples if each.labels.get("variant") == "mul-0.0"]) == 1


async def test_readiness_refusals_and_what_runs_are_shown(store: ModelStore) -> None:
    """Not ready while models load; then how many files were refused, the version and the engine."""
    (store.root / "tiny/1/mul-0.8.onnx").write_bytes(b"")
    engine, started = FakeEngine(CLASSES), asyncio.Event()
    engine.may_load.clear()
    app = create_app(Settings(model_store=store.root), engine, lambda _: started.set(), OPEN)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://tiny") as client,
    ):
        assert (await scrape(client)).sum("ready") == 0
        engine.may_load.set()
        await asyncio.wait_for(started.wait(), 30)
        after = await scrape(client)
    assert (after.sum("ready"), after.sum("refusals")) == (1, 1)
    (build,) = after.of("build_info")
    assert build.labels == {"version": app.version, "engine": "fake"}


async def test_load_is_read_when_it_is_asked_for(store: ModelStore) -> None:
    """What waits and runs while the engine is held, its limits, and nothing of it afterwards."""
    engine = FakeEngine(CLASSES)
    async with serve(store, engine, threads=2, batch_rows=4, queue_rows=20_000, queue_bytes=10**6) as client:
        engine.may_run.clear()
        asking = asyncio.create_task(client.post(PATH, json=BODY | {"votes": 50}))
        await until(lambda: len(engine.batches) == 2)
        during = await scrape(client)
        engine.may_run.set()
        await asking
        after = await scrape(client)
    held_bytes = 2 * (4 * np.prod(SHAPE) + 2 * 8 * CLASSES)  # of each input float32 values, and int64 tallies
    held = {"queue_requests": 1, "queue_rows": 100, "queue_bytes": held_bytes, "lanes_busy": 2}
    assert {name: during.sum(name) for name in held} == held
    assert {name: after.sum(name) for name in held} == dict.fromkeys(held, 0)
    limits = {"queue_rows_limit": 20_000, "queue_bytes_limit": 10**6, "lanes": 2}
    assert {name: after.sum(name) for name in limits} == limits


async def test_refused_and_failed_requests_are_counted_by_their_code(store: ModelStore) -> None:
    """A full queue never had the votes; a failed batch drops all votes of its request."""
    engine = FakeEngine(CLASSES)
    async with serve(store, engine, queue_rows=100, max_votes=50, threads=1) as client:
        engine.failing_votes = {9}
        assert (await client.post(PATH, json=BODY | {"votes": 10})).status_code == 500
        engine.may_run.clear()
        first = asyncio.create_task(client.post(PATH, json=BODY | {"votes": 5}))
        await until(lambda: len(engine.batches) > 1)
        assert (await client.post(PATH, json=BODY | {"votes": 50})).status_code == 429
        engine.may_run.set()
        assert (await first).status_code == 200
        after = await scrape(client)
    for code in ("ok", "engine_error"):
        assert after.sum("requests_total", **LABELS, code=code) == 1
    refused_at_the_door = LABELS | {"variant": "", "code": "queue_full"}
    assert after.sum("requests_total", **refused_at_the_door) == after.sum("requests_total", code="queue_full") == 1
    assert after.sum("votes_asked_total") == 30
    assert after.sum("votes_cast_total") == 10
    assert after.sum("votes_dropped_total", **LABELS, reason="failed") == after.sum("votes_dropped_total") == 20
    assert after.sum("batches_failed_total", **LABELS) == 1


async def test_votes_that_a_deadline_left_out_are_dropped_not_saved(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an answer that is incomplete, and for a request that has no answer at all."""
    engine = Slow(batches=1, classes=CLASSES)
    body = BODY | {"inputs": INPUTS[:1], "votes": 20, "deadline_ms": 60_000, "stop": {"rule": "exact"}}
    async with serve(store, engine, threads=1, batch_rows=4) as client:
        asking = [asyncio.create_task(client.post(PATH, json=body))]
        await until(lambda: len(engine.batches) == 2)
        asking.append(asyncio.create_task(client.post(PATH, json=body)))
        async with asyncio.timeout(30):
            while (await scrape(client)).sum("queue_requests") < 2:  # noqa: ASYNC110  # seen from outside alone
                await asyncio.sleep(0)
        skip_ahead(monkeypatch, 61)
        answer, late = [await each for each in asking]
        engine.may_run.set()
        after = await scrape(client)
    assert [prediction["votes_used"] for prediction in answer.json()["predictions"]] == [4]
    assert late.status_code == 504
    assert after.sum("votes_cast_total", **LABELS, rule="exact") == after.sum("votes_cast_total") == 4
    assert after.sum("votes_dropped_total", **LABELS, reason="deadline") == after.sum("votes_dropped_total") == 36
    assert after.sum("votes_saved_total") == 0
    assert after.sum("incomplete_predictions_total", **LABELS) == 1
    assert after.sum("requests_total", **LABELS, code="deadline_exceeded") == 1


async def test_applications_in_one_process_count_apart(store: ModelStore) -> None:
    """Each has a registry of its own."""
    async with serve(store) as one, serve(store) as other:
        await predict(one)
        assert (await scrape(one)).sum("requests_total") == 1
        assert (await scrape(other)).sum("requests_total") == 0


def test_a_forgotten_session_is_exported_no_more() -> None:
    """None of its series is left, those of others stay, and one that comes back counts from zero."""
    metrics, other = Metrics(), KEY._replace(variant="w")
    metrics.declare([KEY, other], 0)
    with RequestRecord(metrics) as record, VoteAccount(metrics, request(1, 3), record) as account:
        record.session = KEY
        account.settle(answered([3], [True]))
    metrics.forget(KEY)
    assert not [sample for sample in shown(metrics).samples if sample.labels.get("variant") == KEY.variant]
    assert [sample for sample in shown(metrics).samples if sample.labels.get("variant") == other.variant]
    metrics.declare([KEY], 0)
    assert shown(metrics).sum("requests_total", variant=KEY.variant, code="ok") == 0
    assert shown(metrics).total("votes_cast_total", variant=KEY.variant) == 0


async def test_metrics_have_tritons_names_where_they_are_wanted(store: ModelStore) -> None:
    """The same counts, added up over variants and in microseconds; none of them without the setting."""
    body = {"inputs": np.zeros((2, *SHAPE)).tolist(), "votes": 3, "sigma": 1}
    for wanted in (True, False):
        async with serve(store, FakeEngine(CLASSES), triton_metrics=wanted) as client:
            for variant in ("mul-0.0", "mul-0.8"):
                assert (await client.post("/v1/models/tiny/predict", json=body | {"variant": variant})).is_success
            await client.post("/v1/models/tiny/predict", json=body | {"votes": 0})
            shown = {
                line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
                for line in (await client.get("/metrics")).text.splitlines()
                if not line.startswith("#")
            }
        theirs = {name: value for name, value in shown.items() if name.startswith("nv_inference_")}
        assert bool(theirs) == wanted
        if not wanted:
            continue
        of = '{model="tiny",version="1"}'
        assert theirs[f"nv_inference_request_success{of}"] == 2
        assert theirs[f"nv_inference_count{of}"] == 4
        assert theirs[f"nv_inference_exec_count{of}"] >= 2
        assert theirs['nv_inference_request_failure{model="tiny",reason="OTHER",version="1"}'] == 1
        seconds = sum(v for k, v in shown.items() if k.startswith("noisevote_request_duration_seconds_sum"))
        assert theirs[f"nv_inference_request_duration_us{of}"] == pytest.approx(1e6 * seconds)
