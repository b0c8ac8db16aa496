"""Models that come, change and go while the server runs."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from noisevote.engine.errors import BadModelError
from noisevote.engine.feeds import Feeds
from noisevote.engine.session_key import SessionKey
from noisevote.model_store.manifest import Manifest
from noisevote.model_store.store import ModelStore
from noisevote.service.models import local_repository
from tests.support.engines import FakeEngine, fake_logits, until
from tests.support.keyed import ALICE, OPS, keyed
from tests.support.manifests import manifest
from tests.support.serving import serve

CLASSES, SHAPE = 3, (1, 4, 4)
INPUT = np.full(SHAPE, 0.5).tolist()
BROKEN = b"broken"


class Loaded(FakeEngine):
    """Knows which sessions are loaded, computes with the file's first byte, and refuses broken files."""

    def __init__(self) -> None:
        super().__init__(CLASSES)
        self.files: dict[SessionKey, bytes] = {}

    def load(self, key: SessionKey, manifest: Manifest, content: bytes, *, tried: bool = False) -> None:
        """Keep its content."""
        super().load(key, manifest, content, tried=tried)
        if content.startswith(BROKEN):
            raise BadModelError("it is broken")
        self.files[key] = content

    def unload(self, key: SessionKey) -> None:
        """Drop it."""
        self.files.pop(key, None)

    def run(self, key: SessionKey, feeds: Feeds) -> NDArray[np.float32]:
        """Logits of another seed for each file; a session that is not loaded is a KeyError, as in ONNX Runtime's."""
        assert self.files[key]
        super().run(key, feeds)
        return fake_logits(Feeds(feeds.input, feeds.sigma, feeds.seed + self.files[key][0], feeds.vote, feeds.row), 3)

    @property
    def loaded(self) -> set[str]:
        """Names of the sessions, with the files' content."""
        return {f"{key.model} {key.version} {key.variant} {content.decode()}" for key, content in self.files.items()}


def publish(store: ModelStore, version: str = "1", name: str = "m", **files: str) -> None:
    """A version with these variants, in the place of one that is there."""
    contents = {variant: content.encode() for variant, content in files.items()}
    store.publish(manifest(contents, name, version, SHAPE), contents, replace=True)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with version 1 of a model."""
    store = ModelStore(tmp_path / "models")
    store.root.mkdir()
    publish(store, v="a")
    return store


@asynccontextmanager
async def serving(store: ModelStore, folder: Path, **settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Loaded]]:
    """A server with an admin's key, and its engine."""
    engine = Loaded()
    async with keyed(store, folder, engine, **settings) as client:
        yield client, engine


async def admin(client: httpx.AsyncClient, what: str, status: int = 200) -> Any:
    """What `POST /v1/admin/…` answers."""
    response = await client.post(f"/v1/admin/{what}", headers=OPS)
    assert response.status_code == status, response.text
    return response.json()["models"] if status == 200 else response.json()["error"]["message"]


async def index(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """The index by `name version`."""
    models = (await client.get("/v1/admin/models", headers=OPS)).json()["models"]
    return {f"{each['name']} {each['version']}": each for each in models}


async def predict(client: httpx.AsyncClient, path: str = "m", **body: Any) -> httpx.Response:
    """A prediction with a fixed seed."""
    asked = {"inputs": [INPUT], "votes": 30, "sigma": 0.5, "seed": 7} | body
    return await client.post(f"/v1/models/{path}/predict", json=asked, headers=ALICE)


async def histogram(client: httpx.AsyncClient, path: str = "m") -> tuple[str, list[int]]:
    """Version and histogram of a prediction that must succeed."""
    response = await predict(client, path)
    assert response.status_code == 200, response.text
    answer = response.json()
    return answer["version"], answer["predictions"][0]["histogram"]


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it holds."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110  # what is waited for is told by the server alone
            await asyncio.sleep(0.01)


async def _is(client: httpx.AsyncClient, state: str) -> bool:
    return bool((await index(client))["m 1"]["state"] == state)


async def _newest_is(client: httpx.AsyncClient, version: str) -> bool:
    return (await histogram(client))[0] == version


async def test_a_new_version_is_the_newest_and_the_old_one_stays(store: ModelStore, tmp_path: Path) -> None:
    """Once it is loaded; both are served beside each other, each by its own file."""
    async with serving(store, tmp_path) as (client, engine):
        _, old = await histogram(client)
        publish(store, "2", v="b")
        assert (await histogram(client)) == ("1", old)
        assert (await index(client))["m 2"]["reason"] == "is not taken up yet"
        (entry,) = await admin(client, "models/m/versions/2/load")
        assert (entry["state"], entry["serving"], entry["resident"]) == ("ready", True, ["v"])
        version, new = await histogram(client)
        assert version == "2"
        assert new != old
        assert await histogram(client, "m/versions/1") == ("1", old)
        assert engine.loaded == {"m 1 v a", "m 2 v b"}


async def test_a_request_under_way_ends_on_what_it_began_with(store: ModelStore, tmp_path: Path) -> None:
    """While its version is replaced by other files; then those are let go of, and only those that changed."""
    publish(store, v="a", w="same")
    async with serving(store, tmp_path, threads=1, batch_rows=8) as (client, engine):
        _, old = await histogram(client, "m")
        before = engine.files[next(key for key in engine.files if key.variant == "w")]
        engine.may_run.clear()
        asking = asyncio.create_task(predict(client, variant="v"))
        await until(lambda: len(engine.batches) > 0 and engine.batches[-1][0].variant == "v")
        publish(store, v="b", w="same")
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
    store: ModelStore, tmp_path: Path, way: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it is new or takes the place of a good one; nothing of it stays; mended, it is taken up."""
    async with serving(store, tmp_path) as (client, engine):
        before = await histogram(client)
        publish(store, version, v="b", w=BROKEN.decode())
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
        publish(store, version, v="b", w="good")
        await admin(client, "refresh")
        assert (await index(client))[f"m {version}"]["reason"] == ""
        assert (await histogram(client))[0] == version


async def test_what_is_unloaded_answers_what_it_accepted_and_nothing_more(store: ModelStore, tmp_path: Path) -> None:
    """Its memory is free when `unload` returns, if nobody holds it; it stays unloaded until it is loaded again."""
    async with serving(store, tmp_path, threads=1, batch_rows=8) as (client, engine):
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
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, and says so."""
    monkeypatch.setattr(local_repository, "UNLOAD_S", 0.01)
    async with serving(store, tmp_path, threads=1) as (client, engine):
        engine.may_run.clear()
        asking = asyncio.create_task(histogram(client))
        await until(lambda: len(engine.batches) > 0)
        (entry,) = await admin(client, "models/m/unload")
        assert (entry["state"], entry["serving"]) == ("unloading", False)
        engine.may_run.set()
        await asking
        await until(lambda: not engine.files)


async def test_refresh_takes_up_what_is_new_changed_or_gone(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is gone only for an instant, because it is being replaced, goes on serving."""
    monkeypatch.setattr(local_repository, "REPLACING_S", 0.2)
    publish(store, "1", "gone", v="x")
    async with serving(store, tmp_path) as (client, engine):
        publish(store, "2", v="b")
        publish(store, "1", v="c")
        (store.root / "gone").rename(store.root / ".gone")
        refreshing = asyncio.create_task(admin(client, "refresh"))
        await asyncio.sleep(0.05)
        (store.root / ".gone").rename(store.root / "gone")
        await refreshing
        assert engine.loaded == {"m 1 v c", "m 2 v b", "gone 1 v x"}
        (store.root / "gone").rename(store.root / ".gone")
        await admin(client, "refresh")
        await until(lambda: engine.loaded == {"m 1 v c", "m 2 v b"})
        assert (await predict(client, "gone")).status_code == 404
        assert set(await index(client)) == {"m 1", "m 2"}


async def test_polling_takes_up_what_is_new(store: ModelStore, tmp_path: Path) -> None:
    """Without being asked, and tries what is broken once, not each time."""
    async with serving(store, tmp_path, poll_models=0.02) as (client, engine):
        publish(store, "2", v="b")
        await eventually(lambda: _newest_is(client, "2"))
        tries: list[str] = []
        load = engine.load

        def counted(key: SessionKey, *arguments: Any, **more: Any) -> None:
            tries.append(key.version)
            load(key, *arguments, **more)

        engine.load = counted  # type: ignore[method-assign]
        publish(store, "3", v=BROKEN.decode())
        await until(lambda: tries == ["3"])
        await asyncio.sleep(0.2)
        assert tries == ["3"]
        assert (await histogram(client))[0] == "2"


async def test_lazily_a_variant_is_loaded_by_its_first_request(store: ModelStore, tmp_path: Path) -> None:
    """However many come at once; before, none is, and the answer is that of one that was loaded at the start."""
    publish(store, v="a", w="b")
    async with serve(store, Loaded()) as eager:
        expected = [(await predict(eager, variant=each)).json()["predictions"] for each in ("v", "w")]
    async with serving(store, tmp_path, lazy=True) as (client, engine):
        assert not engine.files
        assert (await index(client))["m 1"]["variants"] == ["v", "w"]
        answers = await asyncio.gather(*(predict(client, variant=each) for each in ("v", "w") * 3))
        assert [answer.json()["predictions"] for answer in answers] == expected * 3
        assert engine.loaded == {"m 1 v a", "m 1 w b"}
        assert (await index(client))["m 1"]["resident"] == ["v", "w"]


async def test_beyond_the_bound_what_was_used_longest_ago_is_unloaded(store: ModelStore, tmp_path: Path) -> None:
    """And loaded again when it is asked for; what is larger than the bound is refused by name."""
    publish(store, u="aa", v="bb", w="cc", x="too large")
    async with serving(store, tmp_path, model_bytes=5) as (client, engine):
        for variant, loaded in (("u", "u"), ("v", "uv"), ("u", "uv"), ("w", "uw"), ("v", "vw")):
            assert (await predict(client, variant=variant)).status_code == 200
            assert {key.variant for key in engine.files} == set(loaded)
        response = await predict(client, variant="x")
        assert response.status_code == 404
        assert "its 9 bytes are more than model_bytes allows" in response.json()["error"]["message"]


async def test_what_has_votes_queued_is_never_unloaded(store: ModelStore, tmp_path: Path) -> None:
    """Whoever needs its memory waits until it is over."""
    publish(store, u="aa", v="bb")
    async with serving(store, tmp_path, model_bytes=3, threads=1, batch_rows=4) as (client, engine):
        assert (await predict(client, variant="u")).status_code == 200
        engine.may_run.clear()
        first = asyncio.create_task(predict(client, variant="u", votes=50))
        await until(lambda: len(engine.batches) > 0 and len(engine.batches[-1][1].row) == 4)
        second = asyncio.create_task(predict(client, variant="v"))
        await asyncio.sleep(0.1)
        assert {key.variant for key in engine.files} == {"u"}
        engine.may_run.set()
        assert {(await each).status_code for each in (first, second)} == {200}
        assert {key.variant for key in engine.files} == {"v"}


async def test_lazily_a_broken_file_is_refused_by_name(store: ModelStore, tmp_path: Path) -> None:
    """By its first request; then `auto` chooses among the others, and nothing keeps waiting."""
    publish(store, good="a", w=BROKEN.decode())
    async with serving(store, tmp_path, lazy=True) as (client, engine):
        answers = await asyncio.gather(*(predict(client, variant="w") for _ in range(3)))
        assert {answer.status_code for answer in answers} == {404}
        assert "'w' is refused: it is broken" in answers[0].json()["error"]["message"]
        assert (await index(client))["m 1"]["refused"] == {"w": "it is broken"}
        assert (await predict(client)).json()["variant"] == "good"
        assert engine.loaded == {"m 1 good a"}


async def test_a_lazy_version_that_is_broken_takes_no_good_ones_place(store: ModelStore, tmp_path: Path) -> None:
    """Its files are tried when it is taken up, although they are loaded only when they are asked for."""
    async with serving(store, tmp_path, lazy=True) as (client, engine):
        before = await histogram(client)
        (store.root / "m/1/v.onnx").write_bytes(b"other")
        publish(store, "2", v="b")
        (store.root / "m/2/v.onnx").write_bytes(b"x")
        await admin(client, "models/m/load", 422)
        assert await histogram(client) == before
        assert engine.loaded == {"m 1 v a"}


async def test_only_the_models_of_the_settings_are_served(store: ModelStore, tmp_path: Path) -> None:
    """Others can be loaded by hand; the newest versions alone, where the settings say so."""
    for version in "234":
        publish(store, version, v=version)
    publish(store, "1", "other", v="o")
    async with serving(store, tmp_path, models=("m",), newest_versions=2) as (client, engine):
        assert engine.loaded == {"m 3 v 3", "m 4 v 4"}
        assert (await index(client))["other 1"]["reason"] == "is not among the models to serve"
        publish(store, "5", v=BROKEN.decode())
        await admin(client, "refresh")
        assert engine.loaded == {"m 3 v 3", "m 4 v 4"}  # none leaves for one that is broken
        publish(store, "5", v="5")
        await admin(client, "refresh")
        await until(lambda: engine.loaded == {"m 4 v 4", "m 5 v 5"})
        await admin(client, "models/other/load")
        assert (await predict(client, "other")).status_code == 200


async def test_operations_are_for_admins_and_take_no_files(store: ModelStore, tmp_path: Path) -> None:
    """Another key is 403; unknown names are 404; whatever is sent is refused."""
    async with serving(store, tmp_path) as (client, _):
        assert (await client.get("/v1/admin/models", headers=ALICE)).status_code == 403
        assert (await client.post("/v1/admin/models/m/unload", headers=ALICE)).status_code == 403
        assert "'x' is not in the store, which has m" in await admin(client, "models/x/load", 404)
        assert "'9' of m is not in the store" in await admin(client, "models/m/versions/9/unload", 404)
        sent = await client.post("/v1/admin/models/m/load", headers=OPS, json={"parameters": {"config": "{}"}})
        assert sent.status_code == 422
        assert (await histogram(client))[0] == "1"


async def test_no_request_keeps_its_version_longer_than_it_lasts(store: ModelStore, tmp_path: Path) -> None:
    """Neither answered, refused, streamed nor abandoned ones: memory would return only when garbage is collected."""
    gc.disable()
    try:
        async with serving(store, tmp_path) as (client, engine):
            await histogram(client)
            assert (await predict(client, votes=0)).status_code == 422
            assert (await predict(client, variant="none")).status_code == 404
            assert (await predict(client, deadline_ms=0.0001)).status_code in {200, 429, 504}
            body = {"inputs": [INPUT], "votes": 30, "sigma": 0.5}
            streamed = await client.post("/v1/models/m/predict/stream", json=body, headers=ALICE)
            assert "event: result" in streamed.text or streamed.status_code == 200
            assert (await client.post("/v1/models/m/plan", json={"sigma": 0.5, "accuracy": 0.9}, headers=ALICE)).text
            publish(store, v="b")
            await admin(client, "models/m/load")
            async with asyncio.timeout(5):
                await until(lambda: engine.loaded == {"m 1 v b"})
    finally:
        gc.enable()
