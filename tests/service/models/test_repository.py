"""Models that come, change and go while the server runs."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import httpx
import pytest

from noisevote.engine.session_key import SessionKey
from noisevote.model_store.store import ModelStore
from noisevote.service.models import local_repository
from tests.support.engines import until
from tests.support.keyed import ALICE, OPS
from tests.support.serving import serve
from tests.support.versions import (
    BROKEN,
    INPUT,
    Loaded,
    admin,
    eventually,
    histogram,
    index,
    predict,
    publish,
    serving,
)


async def _is(client: httpx.AsyncClient, state: str) -> bool:
    return bool((await index(client))["m 1"]["state"] == state)


async def _newest_is(client: httpx.AsyncClient, version: str) -> bool:
    return (await histogram(client))[0] == version


async def test_a_new_version_is_the_newest_and_the_old_one_stays(growing: ModelStore, tmp_path: Path) -> None:
    """Once it is loaded; both are served beside each other, each by its own file."""
    async with serving(growing, tmp_path) as (client, engine):
        _, old = await histogram(client)
        publish(growing, "2", v="b")
        assert (await histogram(client)) == ("1", old)
        assert (await index(client))["m 2"]["reason"] == "is not taken up yet"
        (entry,) = await admin(client, "models/m/versions/2/load")
        assert (entry["state"], entry["serving"], entry["resident"]) == ("ready", True, ["v"])
        version, new = await histogram(client)
        assert version == "2"
        assert new != old
        assert await histogram(client, "m/versions/1") == ("1", old)
        assert engine.loaded == {"m 1 v a", "m 2 v b"}


async def test_a_request_under_way_ends_on_what_it_began_with(growing: ModelStore, tmp_path: Path) -> None:
    """While its version is replaced by other files; then those are let go of, and only those that changed."""
    publish(growing, v="a", w="same")
    async with serving(growing, tmp_path, threads=1, batch_rows=8) as (client, engine):
        _, old = await histogram(client, "m")
        before = engine.files[next(key for key in engine.files if key.variant == "w")]
        engine.may_run.clear()
        asking = asyncio.create_task(predict(client, variant="v"))
        await until(lambda: len(engine.batches) > 0 and engine.batches[-1][0].variant == "v")
        publish(growing, v="b", w="same")
        await admin(client, "models/m/load")
        assert engine.loaded == {"m 1 v a", "m 1 v b", "m 1 w same"}
        assert engine.files[next(key for key in engine.files if key.variant == "w")] is before
        engine.may_run.set()
        answer = (await asking).json()
        await until(lambda: engine.loaded == {"m 1 v b", "m 1 w same"})
        async with serve(_alone(tmp_path, "a"), Loaded()) as other:
            assert answer["predictions"] == (await predict(other, variant="v")).json()["predictions"]
        assert (await predict(client, variant="v")).json()["predictions"] != answer["predictions"]
        assert old


def _alone(folder: Path, content: str) -> ModelStore:
    store = ModelStore(folder / "alone")
    store.root.mkdir()
    publish(store, v=content, w="same")
    return store


@pytest.mark.parametrize("way", ["load", "refresh"])
@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_broken_version_is_refused_by_name_while_the_previous_one_serves(
    growing: ModelStore, tmp_path: Path, way: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it is new or takes the place of a good one; nothing of it stays; mended, it is taken up."""
    async with serving(growing, tmp_path) as (client, engine):
        before = await histogram(client)
        publish(growing, version, v="b", w=BROKEN.decode())
        if way == "load":
            message = await admin(client, "models/m/load", 422)
            assert message == f"model: m {version}: variant w: it is broken"
        else:
            await admin(client, "refresh")
        assert (await index(client))[f"m {version}"]["reason"] == "variant w: it is broken"
        assert f"refused: m {version} w: it is broken" in caplog.text
        assert await histogram(client) == before
        assert engine.loaded == {"m 1 v a"}
        assert "noisevote_refusals 1.0" in (await client.get("/metrics", headers=OPS)).text
        publish(growing, version, v="b", w="good")
        await admin(client, "refresh")
        assert (await index(client))[f"m {version}"]["reason"] == ""
        assert (await histogram(client))[0] == version


async def test_what_is_unloaded_answers_what_it_accepted_and_nothing_more(growing: ModelStore, tmp_path: Path) -> None:
    """Its memory is free when `unload` returns, if nobody holds it; it stays unloaded until it is loaded again."""
    async with serving(growing, tmp_path, threads=1, batch_rows=8) as (client, engine):
        expected = await histogram(client)
        engine.may_run.clear()
        asking = asyncio.create_task(histogram(client))
        await until(lambda: len(engine.batches) > 0)
        unloading = asyncio.create_task(admin(client, "models/m/unload"))
        await eventually(lambda: _is(client, "unloading"))
        assert (await predict(client)).status_code == 404
        engine.may_run.set()
        assert await asking == expected
        (entry,) = await unloading
        assert (entry["state"], entry["serving"], entry["reason"]) == ("unavailable", False, "was unloaded")
        assert not engine.files
        assert 'variant="v"' not in (await client.get("/metrics", headers=OPS)).text
        await admin(client, "refresh")
        assert (await predict(client)).status_code == 404
        await admin(client, "models/m/load")
        assert await histogram(client) == expected


async def test_unload_returns_although_a_request_holds_on(
    growing: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, and says so."""
    monkeypatch.setattr(local_repository, "UNLOAD_S", 0.01)
    async with serving(growing, tmp_path, threads=1) as (client, engine):
        engine.may_run.clear()
        asking = asyncio.create_task(histogram(client))
        await until(lambda: len(engine.batches) > 0)
        (entry,) = await admin(client, "models/m/unload")
        assert (entry["state"], entry["serving"]) == ("unloading", False)
        engine.may_run.set()
        await asking
        await until(lambda: not engine.files)


async def test_refresh_takes_up_what_is_new_changed_or_gone(
    growing: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is gone only for an instant, because it is being replaced, goes on serving."""
    monkeypatch.setattr(local_repository, "REPLACING_S", 0.2)
    publish(growing, "1", "gone", v="x")
    async with serving(growing, tmp_path) as (client, engine):
        publish(growing, "2", v="b")
        publish(growing, "1", v="c")
        (growing.root / "gone").rename(growing.root / ".gone")
        refreshing = asyncio.create_task(admin(client, "refresh"))
        await asyncio.sleep(0.05)
        (growing.root / ".gone").rename(growing.root / "gone")
        await refreshing
        assert engine.loaded == {"m 1 v c", "m 2 v b", "gone 1 v x"}
        (growing.root / "gone").rename(growing.root / ".gone")
        await admin(client, "refresh")
        await until(lambda: engine.loaded == {"m 1 v c", "m 2 v b"})
        assert (await predict(client, "gone")).status_code == 404
        assert set(await index(client)) == {"m 1", "m 2"}


async def test_polling_takes_up_what_is_new(growing: ModelStore, tmp_path: Path) -> None:
    """Without being asked, and tries what is broken once, not each time."""
    async with serving(growing, tmp_path, poll_models=0.02) as (client, engine):
        publish(growing, "2", v="b")
        await eventually(lambda: _newest_is(client, "2"))
        tries: list[str] = []
        load = engine.load

        def counted(key: SessionKey, *arguments: Any, **more: Any) -> None:
            tries.append(key.version)
            load(key, *arguments, **more)

        engine.load = counted  # type: ignore[method-assign]
        publish(growing, "3", v=BROKEN.decode())
        await until(lambda: tries == ["3"])
        await asyncio.sleep(0.2)
        assert tries == ["3"]
        assert (await histogram(client))[0] == "2"


async def test_only_the_models_of_the_settings_are_served(growing: ModelStore, tmp_path: Path) -> None:
    """Others can be loaded by hand; the newest versions alone, where the settings say so."""
    for version in "234":
        publish(growing, version, v=version)
    publish(growing, "1", "other", v="o")
    async with serving(growing, tmp_path, models=("m",), newest_versions=2) as (client, engine):
        assert engine.loaded == {"m 3 v 3", "m 4 v 4"}
        assert (await index(client))["other 1"]["reason"] == "is not among the models to serve"
        publish(growing, "5", v=BROKEN.decode())
        await admin(client, "refresh")
        assert engine.loaded == {"m 3 v 3", "m 4 v 4"}  # none leaves for one that is broken
        publish(growing, "5", v="5")
        await admin(client, "refresh")
        await until(lambda: engine.loaded == {"m 4 v 4", "m 5 v 5"})
        await admin(client, "models/other/load")
        assert (await predict(client, "other")).status_code == 200


async def test_operations_are_for_admins_and_take_no_files(growing: ModelStore, tmp_path: Path) -> None:
    """Another key is 403; unknown names are 404; whatever is sent is refused."""
    async with serving(growing, tmp_path) as (client, _):
        assert (await client.get("/v1/admin/models", headers=ALICE)).status_code == 403
        assert (await client.post("/v1/admin/models/m/unload", headers=ALICE)).status_code == 403
        assert "'x' is not in the store, which has m" in await admin(client, "models/x/load", 404)
        assert "'9' of m is not in the store" in await admin(client, "models/m/versions/9/unload", 404)
        sent = await client.post("/v1/admin/models/m/load", headers=OPS, json={"parameters": {"config": "{}"}})
        assert sent.status_code == 422
        assert (await histogram(client))[0] == "1"


async def test_no_request_keeps_its_version_longer_than_it_lasts(growing: ModelStore, tmp_path: Path) -> None:
    """Neither answered, refused, streamed nor abandoned ones: memory would return only when garbage is collected."""
    gc.disable()
    try:
        async with serving(growing, tmp_path) as (client, engine):
            await histogram(client)
            assert (await predict(client, votes=0)).status_code == 422
            assert (await predict(client, variant="none")).status_code == 404
            assert (await predict(client, deadline_ms=0.0001)).status_code in {200, 429, 504}
            body = {"inputs": [INPUT], "votes": 30, "sigma": 0.5}
            streamed = await client.post("/v1/models/m/predict/stream", json=body, headers=ALICE)
            assert "event: result" in streamed.text or streamed.status_code == 200
            assert (await client.post("/v1/models/m/plan", json={"sigma": 0.5, "accuracy": 0.9}, headers=ALICE)).text
            publish(growing, v="b")
            await admin(client, "models/m/load")
            async with asyncio.timeout(5):
                await until(lambda: engine.loaded == {"m 1 v b"})
    finally:
        gc.enable()
