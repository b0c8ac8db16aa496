import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from noisevote.engine.session_key import SessionKey
from noisevote.model_store.manifest import MANIFEST_FILE, Manifest
from noisevote.model_store.store import ModelStore
from noisevote.service.app import create_app
from noisevote.service.models import loading
from noisevote.service.models.loading import load_models
from noisevote.service.rest.v1.model_schemas import ModelDescription, ModelList
from noisevote.service.runtime import Runtime
from noisevote.service.scheduling.batch_size import BatchProfile
from noisevote.service.scheduling.engine import Engine
from noisevote.service.settings import Settings
from tests.support import manifests as variants
from tests.support.engines import FakeEngine, until
from tests.support.graphs import CLASSES, SHAPE
from tests.support.serving import OPEN, publish_tiny, serve

PREDICT = "/v1/models/tiny/predict"
BODY = {"inputs": [[[[0.5] * SHAPE[2]] * SHAPE[1]]], "seed": 1}


async def test_models_are_listed_with_their_manifests(store: ModelStore) -> None:
    """The newest version of each, and what versions there are."""
    publish_tiny(store, "2")
    publish_tiny(store, name="other")
    async with serve(store, FakeEngine(CLASSES)) as client:
        models = ModelList.model_validate_json((await client.get("/v1/models")).content).models
        newest = ModelDescription.model_validate_json((await client.get("/v1/models/tiny")).content)
        first = ModelDescription.model_validate_json((await client.get("/v1/models/tiny/versions/1")).content)
    assert [(model.name, model.version) for model in models] == [("other", "1"), ("tiny", "2")]
    assert newest == models[1]
    assert newest.versions == first.versions == ["1", "2"]
    assert newest.variants == ["mul-0.0", "mul-0.8"]
    assert first.manifest == store.manifest("tiny", "1")


async def test_a_corrupted_file_is_refused_by_name_and_the_others_serve(
    store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, in the description, and to whoever asks for it; `auto` chooses among what is left."""
    path = store.root / "tiny/1/mul-0.8.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    async with serve(store) as client:
        described = (await client.get("/v1/models/tiny")).json()
        asked = await client.post(PREDICT, json=BODY | {"variant": "mul-0.8"})
        auto = await client.post(PREDICT, json=BODY | {"sigma": 0.9})
    assert "refused: tiny 1 mul-0.8" in caplog.text
    assert described["variants"] == ["mul-0.0"]
    assert list(described["refused"]) == ["mul-0.8"]
    assert asked.status_code == 404
    assert "'mul-0.8' is refused" in asked.json()["error"]["message"]
    assert "sha256" in asked.json()["error"]["message"]
    assert auto.json()["variant"] == "mul-0.0"


async def test_a_version_without_a_usable_file_is_not_the_newest(store: ModelStore) -> None:
    """The newest served version is the default; a bad one is as if it were not there."""
    for version in ("2", "3"):
        publish_tiny(store, version)
    for file in (store.root / "tiny/2").glob("*.onnx"):
        file.write_bytes(b"")
    (store.root / "tiny/3" / MANIFEST_FILE).write_text("{}")
    async with serve(store) as client:
        described = (await client.get("/v1/models/tiny")).json()
        assert (await client.post("/v1/models/tiny/versions/2/predict", json=BODY)).status_code == 404
    assert (described["version"], described["versions"]) == ("1", ["1"])


async def test_a_file_that_onnx_runtime_cannot_load_is_refused_too(store: ModelStore) -> None:
    """Though its hash is right."""
    manifest = store.manifest("tiny")
    broken = manifest.model_copy(update={"version": "2"})
    files = {variant.name: store.read(manifest, variant) for variant in manifest.variants}
    other = broken.model_copy(update={"classes": ("a", "b")})
    store.publish(Manifest.model_validate(other.model_dump()), files)
    async with serve(store) as client:
        assert (await client.get("/v1/models/tiny")).json()["versions"] == ["1"]


def connect(app: FastAPI) -> httpx.AsyncClient:
    """A client."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://tiny", timeout=30)


async def test_readiness_follows_loading(store: ModelStore) -> None:
    """While models are loaded the process is alive, not ready, and refuses with 503; then it answers."""
    engine, started = FakeEngine(CLASSES), asyncio.Event()
    engine.may_load.clear()
    app = create_app(Settings(model_store=store.root), engine, lambda _: started.set(), OPEN)
    async with app.router.lifespan_context(app), connect(app) as client:
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
        for response in (await client.post(PREDICT, json=BODY), await client.get("/v1/models")):
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "not_ready"
            assert response.headers["retry-after"] == "1"
        engine.may_load.set()
        await asyncio.wait_for(started.wait(), 30)
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        assert (await client.post(PREDICT, json=BODY)).status_code == 200


@pytest.mark.parametrize("damage", ["empty store", "all refused", "unreadable"])
async def test_a_server_that_serves_nothing_says_why(
    store: ModelStore, damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Never ready, with the reason."""
    settings = Settings(model_store=store.root)
    if damage == "empty store":
        settings = Settings(model_store=tmp_path)
    elif damage == "all refused":
        (store.root / "tiny/1" / MANIFEST_FILE).write_text("{}")
    else:

        def unreadable(_: ModelStore) -> list[str]:
            raise PermissionError("no access")

        monkeypatch.setattr(ModelStore, "survey", unreadable)
    problems: list[str | None] = []

    def on_start(runtime: Runtime) -> None:
        problems.append(runtime.problem)

    app = create_app(settings, FakeEngine(), on_start, OPEN)
    async with app.router.lifespan_context(app), connect(app) as client:
        await until(lambda: bool(problems))
        ready = await client.get("/readyz")
    expected = {"empty store": str(tmp_path), "all refused": "tiny 1: ", "unreadable": "no access"}[damage]
    assert ready.status_code == 503
    assert expected in ready.json()["reason"]
    assert problems == [ready.json()["reason"]]


async def test_an_unexpected_error_has_the_form_of_every_error(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of ours is a 500 that tells nothing of the inside, and the server goes on."""

    def defect(*_: object) -> None:
        raise ZeroDivisionError("secret")

    async with serve(store, FakeEngine(CLASSES)) as client:
        with monkeypatch.context() as patch:
            patch.setattr("noisevote.service.prediction.handle.prepare", defect)
            response = await client.post(PREDICT, json=BODY)
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "internal_error"
        assert "secret" not in response.text
        assert (await client.post(PREDICT, json=BODY)).status_code == 200


async def test_a_full_queue_is_429_with_retry_after(store: ModelStore) -> None:
    """At once; what was accepted is answered."""
    engine = FakeEngine(CLASSES)
    async with serve(store, engine, queue_rows=30, max_votes=30, threads=1) as client:
        engine.may_run.clear()
        first = asyncio.create_task(client.post(PREDICT, json=BODY | {"votes": 20}))
        await until(lambda: bool(engine.batches))
        second = await client.post(PREDICT, json=BODY | {"votes": 20})
        assert second.status_code == 429
        assert second.json()["error"]["code"] == "queue_full"
        assert int(second.headers["retry-after"]) >= 1
        engine.may_run.set()
        assert (await first).status_code == 200


async def test_an_engine_error_is_a_500_and_the_next_request_is_answered(store: ModelStore) -> None:
    """The message names the session."""
    engine = FakeEngine(CLASSES)
    async with serve(store, engine) as client:
        engine.failing_votes = {9}
        broken = await client.post(PREDICT, json=BODY | {"votes": 10})
        assert broken.status_code == 500
        assert broken.json()["error"] == {"code": "engine_error", "message": "tiny 1 mul-0.0: RuntimeError"}
        assert (await client.post(PREDICT, json=BODY | {"votes": 9})).status_code == 200


def test_each_network_is_timed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variants that differ in their weights alone share one measurement, so that many of them start as fast as one."""
    timed: list[SessionKey] = []

    def measured(_: Engine, key: SessionKey, *__: object) -> BatchProfile:
        timed.append(key)
        return BatchProfile(8, 0.001, ((8, 0.008),))

    monkeypatch.setattr(loading, "measure", measured)
    store = ModelStore(tmp_path)
    files = {name: name.encode() for name in ("mul-0.0", "mul-0.8", "mul-1.0")}
    alike, wider = variants.manifest(files), variants.variant("mul-0.9", b"wide", multiply_accumulates=20)
    store.publish(alike.model_copy(update={"variants": (*alike.variants, wider)}), {**files, "mul-0.9": b"wide"})
    loaded = load_models(store, FakeEngine(), 32, lambda: 0.0)
    assert [key.variant for key in timed] == ["mul-0.0", "mul-0.9"]
    assert {key.variant for key in loaded.profiles()} == {*files, "mul-0.9"}
