"""Certificates over HTTP, against a slow reference."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy import stats

from noisevote.engine.certificate_seed import certificate_seed
from noisevote.model_store.store import ModelStore
from noisevote.service.prediction import slices
from tests.service.rest.v1.test_stream import streamed
from tests.service.test_metrics import scrape
from tests.support.engines import FakeEngine, Slow, skip_ahead, until
from tests.support.serving import publish_tiny, serve
from tests.support.smoothed import CLASSES, SHAPE, SIGMA, logits_of, publish_smoothed, selected

pytestmark = pytest.mark.slow

PATH = "/v1/models/smooth/certify"
INPUTS = np.random.default_rng(2).random((3, *SHAPE)).astype(np.float32)
BODY: dict[str, Any] = {"inputs": INPUTS.tolist(), "n0": 40, "n": 1500, "alpha": 0.001}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with `smooth`, which certifies, and `tiny`, which does not."""
    store = ModelStore(tmp_path / "models")
    publish_smoothed(store)
    publish_tiny(store)
    return store


@pytest.fixture
async def client(store: ModelStore) -> AsyncIterator[httpx.AsyncClient]:
    """A client of both, on the kernel."""
    async with serve(store) as client:
        yield client


def without_timing(answer: dict[str, Any]) -> dict[str, Any]:
    """What follows from the votes."""
    return {key: value for key, value in answer.items() if key != "timing_ms"}


@pytest.mark.parametrize("path", [PATH, "/v1/models/smooth/versions/1/certify"])
async def test_the_first_votes_select_and_the_following_estimate(client: httpx.AsyncClient, path: str) -> None:
    """Votes 0 … n0 − 1 pick the class and n0 … n0 + n − 1 count it: as the slow reference does; radii are SciPy's."""
    answer = (await client.post(path, json=BODY)).json()
    assert (answer["sigma"], answer["rule"], answer["operator"]) == (SIGMA, "fixed", 1)
    for example, found in zip(INPUTS, answer["certificates"], strict=True):
        assert found["seed"] == certificate_seed(answer["sha256"], example, answer["nonce"])
        index = selected(logits_of(example, found["seed"], 0, 40))
        count = int((logits_of(example, found["seed"], 40, 1500).argmax(axis=1) == index).sum())
        assert (found["index"], found["count"], found["votes_used"]) == (index, count, 1500)
        assert (found["first_vote"], found["stopped_by"]) == (40, "budget")
        bound = stats.beta.ppf(0.001, count, 1500 - count + 1)
        assert found["lower_bound"] == pytest.approx(bound, rel=1e-9)
        assert found["radius"] == pytest.approx(max(0.0, SIGMA * stats.norm.ppf(bound)), rel=1e-9)
        assert found["abstain"] == (found["radius"] == 0)
    assert any(not found["abstain"] for found in answer["certificates"])


async def test_how_votes_are_cut_changes_nothing(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of 7 and of 512 votes, batches of 3 and of 32 rows, one thread and two: the same certificates."""
    monkeypatch.setattr("secrets.token_hex", lambda size: "5a" * size)
    answers = []
    for slice_votes, rows, threads in ((7, 3, 2), (512, 32, 1)):
        monkeypatch.setattr(slices, "SLICE_VOTES", slice_votes)
        async with serve(store, batch_rows=rows, threads=threads) as client:
            bodies = [BODY | {"n": 300} | extra for extra in ({"radius": 0.2, "rule": "anytime"}, {"rule": "fixed"})]
            answers += [without_timing((await client.post(PATH, json=body)).json()) for body in bodies]
    assert answers[:2] == answers[2:]


async def test_the_anytime_rule_stops_where_the_radius_is_certified_or_refuted(client: httpx.AsyncClient) -> None:
    """A radius far within reach takes few votes, one beyond reach not one, and one between is not certified."""
    easy = (await client.post(PATH, json=BODY | {"rule": "anytime", "radius": 0.01, "n": 100_000})).json()
    certified = [found for found in easy["certificates"] if not found["abstain"]]
    assert certified
    assert all(found["radius"] >= 0.01 and found["stopped_by"] == "radius" for found in certified)
    assert all(found["votes_used"] < 5000 for found in certified)
    beyond = (await client.post(PATH, json=BODY | {"rule": "anytime", "radius": 5.0})).json()
    assert {found["stopped_by"] for found in beyond["certificates"]} == {"unreachable"}
    assert {found["votes_used"] for found in beyond["certificates"]} == {0}
    hard = (await client.post(PATH, json=BODY | {"rule": "anytime", "radius": 1.2, "n": 50_000})).json()
    assert all(found["abstain"] and found["radius"] == 0 for found in hard["certificates"])
    assert "refuted" in {found["stopped_by"] for found in hard["certificates"]}


async def test_the_nonce_is_drawn_anew_for_each_request(client: httpx.AsyncClient) -> None:
    """So the same input meets other noise."""
    first, second = [(await client.post(PATH, json=BODY | {"n": 10})).json() for _ in range(2)]
    assert first["nonce"] != second["nonce"]
    assert first["certificates"][0]["seed"] != second["certificates"][0]["seed"]


@pytest.mark.parametrize(
    ("path", "change", "status", "words"),
    [
        (PATH, {"seed": 7}, 422, "seed: the noise of a certificate is nobody's choice"),
        (PATH, {"sigma": 0.1}, 422, "sigma: unknown key"),
        (PATH, {"variant": "out-0.5"}, 422, "its variant 'out-0.5' certifies"),
        (PATH, {"variant": "other"}, 404, "variant: 'other' is not one of"),
        (PATH, {"n": 600_000}, 422, "n: 600000, with n0 40 on each of 3 inputs 1800120 votes, more than 1000000"),
        (PATH, {"n0": 0}, 422, "n0: 0"),
        (PATH, {"alpha": 1}, 422, "alpha: 1"),
        (PATH, {"radius": 0}, 422, "radius: 0"),
        ("/v1/models/tiny/certify", {}, 422, "model: tiny 1: no variant of it certifies"),
        ("/v1/models/other/certify", {}, 404, "model: 'other'"),
    ],
)
async def test_what_cannot_be_certified_is_refused_by_name(
    client: httpx.AsyncClient, path: str, change: dict[str, Any], status: int, words: str
) -> None:
    """Over either route, before any vote."""
    for each in (path, f"{path}/stream"):
        answer = await client.post(each, json=BODY | change)
        assert answer.status_code == status
        assert words in answer.json()["error"]["message"]


async def test_the_stream_ends_with_the_answer_of_certify(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last digit; the events before it count up to it."""
    monkeypatch.setattr("secrets.token_hex", lambda size: "5a" * size)
    *before, (name, answer) = await streamed(client, BODY, f"{PATH}/stream")
    assert name == "answer"
    assert without_timing(answer) == without_timing((await client.post(PATH, json=BODY)).json())
    counted = [0, 0, 0]
    for name, data in before:
        assert name == "votes"
        (standing,) = data["certificates"]
        assert standing["votes_used"] > counted[standing["input"]]
        counted[standing["input"]] = standing["votes_used"]
    assert counted == [1500, 1500, 1500]


async def test_at_the_deadline_whole_slices_count(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The anytime rule's bound holds for them, the fixed rule has none; inputs not yet selected on have no label."""
    for rule in ("anytime", "fixed"):
        engine = Slow(60, CLASSES)
        async with serve(store, engine, threads=1, batch_rows=16) as client:
            body = BODY | {"n": 100_000, "n0": 100, "rule": rule, "deadline_ms": 60_000}
            certifying = asyncio.create_task(client.post(PATH, json=body))
            await until(lambda engine=engine: len(engine.batches) == 61)  # type: ignore[misc]
            skip_ahead(monkeypatch, 61)
            answer = (await certifying).json()
            engine.may_run.set()
            monkeypatch.undo()
        first, *others = answer["certificates"]
        assert {found["stopped_by"] for found in answer["certificates"]} == {"deadline"}
        assert first["votes_used"] == 512
        assert first["abstain"] == (rule == "fixed" or first["radius"] == 0)
        assert [(found["index"], found["votes_used"]) for found in others] == [(None, 0)] * 2


async def test_votes_are_dropped_when_the_client_leaves(store: ModelStore) -> None:
    """Nothing is left in the queue, and every vote is accounted for as cancelled."""
    engine = Slow(4, CLASSES)
    async with serve(store, engine, threads=1) as client:
        streaming = asyncio.create_task(streamed(client, BODY | {"n0": 1000}, f"{PATH}/stream"))
        await until(lambda: len(engine.batches) == 5)
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)
        engine.may_run.set()
        shown = await scrape(client)
        assert shown.sum("queue_rows") == 0
        assert shown.sum("votes_dropped_total", reason="cancelled") == 3 * 2500
        assert len(engine.batches) <= 6


async def test_a_closed_connection_drops_what_is_left(store: ModelStore) -> None:
    """Without a stream too: the server hears of it while votes are cast, and casts no more slices."""
    engine = Slow(4, CLASSES)
    async with serve(store, engine, threads=1) as client:
        app: Any = client._transport.app  # type: ignore[attr-defined]
        body, sent = json.dumps(BODY | {"n0": 1000}).encode(), list[Any]()
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if not sent:
                sent.append("body")
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "query_string": b"",
                 "headers": headers, "http_version": "1.1", "root_path": "", "scheme": "http"}  # fmt: skip
        certifying = asyncio.create_task(app(scope, receive, send))
        await until(lambda: len(engine.batches) == 5)
        gone.set()
        await until(certifying.done)
        engine.may_run.set()
        shown = await scrape(client)
        assert shown.sum("votes_dropped_total", reason="cancelled") == 3 * 2500
        assert len(engine.batches) <= 6


async def test_every_vote_is_accounted_for(client: httpx.AsyncClient) -> None:
    """What is asked is cast, saved or dropped, by the rule's name, over answers and refusals."""
    answer = (await client.post(PATH, json=BODY | {"rule": "anytime", "radius": 0.2, "n": 5000})).json()
    used = sum(found["votes_used"] for found in answer["certificates"])
    shown = await scrape(client)
    names = [f"votes_{name}_total" for name in ("asked", "cast", "saved")]
    asked, cast, saved = (shown.sum(name, rule="certify_anytime") for name in names)
    assert (asked, cast, saved) == (3 * 5040, used + 3 * 40, 3 * 5000 - used)


async def test_one_vote_beside_eight_certificates_is_in_the_next_batch(store: ModelStore) -> None:
    """Eight requests for thousands of votes wait; a prediction's only row is cut into the batch that comes next."""
    engine = Slow(20, CLASSES)
    async with serve(store, engine, threads=1, batch_rows=16) as client:
        streams = [
            asyncio.create_task(client.post(PATH, json=BODY | {"inputs": INPUTS[:1].tolist(), "n": 4000}))
            for _ in range(8)
        ]
        await until(lambda: len(engine.batches) == 21)
        body = {"inputs": INPUTS[:1].tolist(), "votes": 1, "seed": 2**40, "variant": "in-0.5", "noise": "additive"}
        predicting = asyncio.create_task(client.post("/v1/models/smooth/predict", json=body))
        await asyncio.sleep(0.05)
        engine.may_run.set()
        assert (await predicting).status_code == 200
        place = next(i for i, (_, feeds) in enumerate(engine.batches) if 2**40 in feeds.seed)
        assert place <= 22  # the 21st was cut before it came, and perhaps the 22nd beside it
        assert {(await each).status_code for each in streams} == {200}


async def test_a_full_queue_delays_what_was_accepted_and_refuses_what_was_not(store: ModelStore) -> None:
    """A certificate that has begun goes on once there is room; a new one is 429, over the stream too."""
    engine = FakeEngine(CLASSES)
    async with serve(store, engine, threads=1, queue_rows=600, max_votes=600) as client:
        engine.may_run.clear()
        body = BODY | {"inputs": INPUTS[:1].tolist(), "n0": 500, "n": 500}
        first = asyncio.create_task(client.post(PATH, json=body))
        await until(lambda: bool(engine.batches))
        for each in (PATH, f"{PATH}/stream"):
            refused = await client.post(each, json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        engine.may_run.set()
        assert (await first).status_code == 200
