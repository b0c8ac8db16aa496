"""Variants that are loaded when they are asked for, and go where memory is bounded."""

import asyncio
from pathlib import Path

from noisevote.model_store.store import ModelStore
from tests.support.engines import until
from tests.support.serving import serve
from tests.support.versions import (
    BROKEN,
    Loaded,
    admin,
    histogram,
    index,
    predict,
    publish,
    serving,
)


async def test_lazily_a_variant_is_loaded_by_its_first_request(growing: ModelStore, tmp_path: Path) -> None:
    """However many come at once; before, none is, and the answer is that of one that was loaded at the start."""
    publish(growing, v="a", w="b")
    async with serve(growing, Loaded()) as eager:
        expected = [(await predict(eager, variant=each)).json()["predictions"] for each in ("v", "w")]
    async with serving(growing, tmp_path, lazy=True) as (client, engine):
        assert not engine.files
        assert (await index(client))["m 1"]["variants"] == ["v", "w"]
        answers = await asyncio.gather(*(predict(client, variant=each) for each in ("v", "w") * 3))
        assert [answer.json()["predictions"] for answer in answers] == expected * 3
        assert engine.loaded == {"m 1 v a", "m 1 w b"}
        assert (await index(client))["m 1"]["resident"] == ["v", "w"]


async def test_beyond_the_bound_what_was_used_longest_ago_is_unloaded(growing: ModelStore, tmp_path: Path) -> None:
    """And loaded again when it is asked for; what is larger than the bound is refused by name."""
    publish(growing, u="aa", v="bb", w="cc", x="too large")
    async with serving(growing, tmp_path, model_bytes=5) as (client, engine):
        for variant, loaded in (("u", "u"), ("v", "uv"), ("u", "uv"), ("w", "uw"), ("v", "vw")):
            assert (await predict(client, variant=variant)).status_code == 200
            assert {key.variant for key in engine.files} == set(loaded)
        response = await predict(client, variant="x")
        assert response.status_code == 404
        assert "its 9 bytes are more than model_bytes allows" in response.json()["error"]["message"]


async def test_what_has_votes_queued_is_never_unloaded(growing: ModelStore, tmp_path: Path) -> None:
    """Whoever needs its memory waits until it is over."""
    publish(growing, u="aa", v="bb")
    async with serving(growing, tmp_path, model_bytes=3, threads=1, batch_rows=4) as (client, engine):
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


async def test_lazily_a_broken_file_is_refused_by_name(growing: ModelStore, tmp_path: Path) -> None:
    """By its first request; then `auto` chooses among the others, and nothing keeps waiting."""
    publish(growing, good="a", w=BROKEN.decode())
    async with serving(growing, tmp_path, lazy=True) as (client, engine):
        answers = await asyncio.gather(*(predict(client, variant="w") for _ in range(3)))
        assert {answer.status_code for answer in answers} == {404}
        assert "'w' is refused: it is broken" in answers[0].json()["error"]["message"]
        assert (await index(client))["m 1"]["refused"] == {"w": "it is broken"}
        assert (await predict(client)).json()["variant"] == "good"
        assert engine.loaded == {"m 1 good a"}


async def test_a_lazy_version_that_is_broken_takes_no_good_ones_place(growing: ModelStore, tmp_path: Path) -> None:
    """Its files are tried when it is taken up, although they are loaded only when they are asked for."""
    async with serving(growing, tmp_path, lazy=True) as (client, engine):
        before = await histogram(client)
        (growing.root / "m/1/v.onnx").write_bytes(b"other")
        publish(growing, "2", v="b")
        (growing.root / "m/2/v.onnx").write_bytes(b"x")
        await admin(client, "models/m/load", 422)
        assert await histogram(client) == before
        assert engine.loaded == {"m 1 v a"}
