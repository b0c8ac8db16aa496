"""The whole application on replicas of this process, beside the one that computes itself."""

import asyncio
import json
import pickle
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from noisevote.engine.session_key import SessionKey
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.library import load_kernel
from noisevote.service.app import app_of
from noisevote.service.backends.local import LocalBackend
from noisevote.service.backends.replica import count, hold
from noisevote.service.backends.replicated import ReplicaLostError, ReplicatedBackend, Spreading
from noisevote.service.backends.replicated_repository import Change
from noisevote.service.metrics import Metrics
from noisevote.service.models.registry import ModelRegistry
from noisevote.service.models.repository import VersionEntry
from noisevote.service.runtime import Runtime
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import CountedVotes
from noisevote.service.settings import Settings
from tests.service.rest.v1.test_predict import INPUTS, PATH
from tests.support.once_tried import OnceTriedEngine
from tests.support.serving import OPEN, serve
from tests.support.smoothed import SHAPE, publish_smoothed

pytestmark = pytest.mark.slow

SPREADING = Spreading(part_rows=25, timeout_s=30, silence_s=30)


class Copying:
    """Tells the replicas, and hands out copies of what they say, as another process would get them."""

    def __init__(self, replicas: list[LocalBackend]) -> None:
        self.repositories = [replica.repository for replica in replicas]

    async def registry(self) -> ModelRegistry:
        """Of the first."""
        return _copied(self.repositories[0].registry)

    async def index(self) -> tuple[VersionEntry, ...]:
        """Of the first."""
        return await self.repositories[0].index()

    async def change(self, change: Change) -> ModelRegistry:
        """Of the last, after all have made it."""
        return _copied([await change.at(repository) for repository in self.repositories][-1])

    async def keep(self, sessions: list[SessionKey]) -> None:
        """All do."""
        for repository in self.repositories:
            repository.keep(sessions)


def _copied(registry: ModelRegistry) -> ModelRegistry:
    copy = pickle.loads(pickle.dumps(registry))
    assert isinstance(copy, ModelRegistry)
    return copy


@asynccontextmanager
async def on_replicas(store: ModelStore, losses: int = 0, **limits: int) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that has two replicas; the first so many asked are lost after their first word."""
    settings = Settings(model_store=store.root, threads=1, **limits)  # type: ignore[arg-type]  # limits are numbers
    replicas = [LocalBackend(settings, OnceTriedEngine(load_kernel()), Metrics(), keeps=True) for _ in range(2)]
    turns = cycle(replicas)
    left = losses
    started = asyncio.Event()

    async def ask(part: VoteRequest, deadline_ms: float | None) -> AsyncGenerator[CountedVotes | None]:
        nonlocal left
        replica = next(turns)
        _held = await hold(replica.repository, part.session)
        async with aclosing(count(replica.dispatcher, part, deadline_ms, 1.0)) as answers:
            async for answer in answers:
                if left:
                    left -= 1
                    raise ReplicaLostError("injected")
                yield answer

    for replica in replicas:
        replica.dispatcher.start()
        await replica.load()
    backend = ReplicatedBackend(settings, SPREADING, ask, Copying(replicas))
    app = app_of(Runtime(settings, backend, Metrics(), lambda _: started.set()), OPEN)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        await asyncio.wait_for(started.wait(), 30)
        yield client
    for replica in replicas:
        await replica.dispatcher.close()


@pytest.mark.parametrize("losses", [0, 3])
@pytest.mark.parametrize(
    "body",
    [
        {"votes": 20, "seed": 7},
        {"votes": 101, "seed": 2**64 - 1},
        {"votes": 101, "seed": 3, "first_vote": 11, "noise": "additive", "reads": 2},
        {"votes": 60, "seed": 5, "stop": {"rule": "exact"}},
        {"votes": 60, "seed": 5, "stop": {"rule": "confidence", "delta": 0.2}, "alpha": 0.2},
        {"votes": 60, "seed": 9, "deadline_ms": 60_000},
    ],
    ids=lambda body: json.dumps(body) if isinstance(body, dict) else str(body),
)
async def test_an_answer_is_that_of_one_process(
    client: httpx.AsyncClient, store: ModelStore, body: dict[str, Any], losses: int
) -> None:
    """To the last bit of the mean probabilities, in parts and with replicas lost on the way; only times differ."""
    whole = {"inputs": INPUTS.tolist(), "sigma": 0.8} | body
    async with on_replicas(store, losses) as spread:
        answers = [(await each.post(PATH, json=whole)).json() for each in (client, spread)]
    for answer in answers:
        del answer["timing_ms"]
    assert answers[0]["predictions"]
    assert answers[0] == answers[1]


async def test_a_drawn_seed_survives_a_lost_replica(client: httpx.AsyncClient, store: ModelStore) -> None:
    """It is drawn once, before any replica is asked: the seed in the answer repeats it elsewhere."""
    body: dict[str, Any] = {"inputs": INPUTS.tolist(), "sigma": 0.8, "votes": 40}
    async with on_replicas(store, losses=2) as spread:
        answer = (await spread.post(PATH, json=body)).json()
    again = (await client.post(PATH, json=body | {"seed": answer["seed"]})).json()
    assert again["predictions"] == answer["predictions"]


async def test_a_stream_ends_with_the_same_answer(client: httpx.AsyncClient, store: ModelStore) -> None:
    """Events before it have votes counted so far."""
    body = {"inputs": INPUTS.tolist(), "sigma": 0.8, "votes": 200, "seed": 4}
    async with on_replicas(store, losses=1) as spread:
        text = (await spread.post(f"{PATH}/stream", json=body)).text
    events = [block.split("\n", 1) for block in text.strip().split("\n\n")]
    assert [name for name, _ in events[:-1]] == ["event: votes"] * (len(events) - 1)
    assert len(events) > 2
    answer = json.loads(events[-1][1].removeprefix("data: "))
    assert answer["predictions"] == (await client.post(PATH, json=body)).json()["predictions"]


async def test_it_serves_what_its_replicas_serve(client: httpx.AsyncClient, store: ModelStore) -> None:
    """Models, readiness, and the votes that it accounts for; how large batches are is for each process to measure."""
    async with on_replicas(store) as spread:
        told = [(await each.get("/v1/models")).json()["models"] for each in (spread, client)]
        assert all(model.pop("batches").keys() == {"mul-0.0", "mul-0.8"} for models in told for model in models)
        assert told[0] == told[1]
        assert (await spread.get("/readyz")).status_code == 200
        await spread.post(PATH, json={"inputs": INPUTS.tolist(), "votes": 40, "variant": "mul-0.8"})
        text = (await spread.get("/metrics")).text
    labels = '{model="tiny",rule="fixed",variant="mul-0.8",version="1"}'
    assert f"noisevote_votes_cast_total{labels} 120.0" in text
    assert "noisevote_lanes 0.0" in text


async def test_more_than_may_wait_is_refused(store: ModelStore) -> None:
    """By status 429 with Retry-After, as in one process; the queue has room again afterwards."""
    body = {"inputs": INPUTS[:1].tolist(), "sigma": 0.8, "votes": 100}
    async with on_replicas(store, max_votes=100, queue_rows=150) as spread:
        answers = await asyncio.gather(*(spread.post(PATH, json=body) for _ in range(4)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert 0 < len(refused) < 4
        assert all(
            answer.headers["retry-after"] and answer.json()["error"]["code"] == "queue_full" for answer in refused
        )
        assert (await spread.post(PATH, json=body)).status_code == 200


async def test_certificates_are_those_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices are parts of a request like others, and a lost one is asked again."""
    monkeypatch.setattr("secrets.token_hex", lambda size: "5a" * size)
    store = ModelStore(tmp_path / "certifying")
    publish_smoothed(store)
    body = {"inputs": np.zeros((2, *SHAPE)).tolist(), "n0": 40, "n": 900, "rule": "anytime", "radius": 0.05}
    answers = []
    for application in (on_replicas(store, losses=3), serve(store)):
        async with application as client:
            answer = (await client.post("/v1/models/smooth/certify", json=body)).json()
            answers.append(answer["certificates"])
    assert answers[0] == answers[1]
