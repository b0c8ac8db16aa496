"""Replicas follow what is done to the models, and keep what the ingress still holds."""

import pickle
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from noisevote.engine.session_key import SessionKey
from noisevote.model_store.store import ModelStore
from noisevote.service.backends import replicated_repository
from noisevote.service.backends.local import LocalBackend
from noisevote.service.backends.replica import hold
from noisevote.service.backends.replicated_repository import Change, ReplicatedRepository
from noisevote.service.errors import EngineError, RefusedModelError, UnknownModelError
from noisevote.service.metrics import Metrics
from noisevote.service.models import local_repository
from noisevote.service.models.registry import ModelRegistry
from noisevote.service.models.repository import VersionEntry
from noisevote.service.settings import Settings
from tests.support.engines import until
from tests.support.versions import BROKEN, Loaded, publish


class Fleet:
    """Replicas of this process; what they say is copied, as on its way from another process."""

    def __init__(self, store: ModelStore, count: int = 2) -> None:
        self.engines = [Loaded() for _ in range(count)]
        settings = Settings(model_store=store.root, threads=1)
        self.replicas = [LocalBackend(settings, engine, Metrics(), keeps=True) for engine in self.engines]

    @property
    def loaded(self) -> list[set[str]]:
        """Sessions of each replica."""
        return [engine.loaded for engine in self.engines]

    async def registry(self) -> ModelRegistry:
        """See `Control`."""
        return _copied(self.replicas[0].repository.registry)

    async def index(self) -> tuple[VersionEntry, ...]:
        """See `Control`."""
        return await self.replicas[0].repository.index()

    async def change(self, change: Change) -> ModelRegistry:
        """See `Control`."""
        return _copied([await change.at(replica.repository) for replica in self.replicas][-1])

    async def keep(self, sessions: list[SessionKey]) -> None:
        """See `Control`."""
        for replica in self.replicas:
            replica.repository.keep(sessions)


def _copied(registry: ModelRegistry) -> ModelRegistry:
    copy = pickle.loads(pickle.dumps(registry))
    assert isinstance(copy, ModelRegistry)
    return copy


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with version 1 of a model."""
    store = ModelStore(tmp_path)
    publish(store, v="a")
    return store


@pytest.fixture
async def fleet(store: ModelStore) -> AsyncIterator[Fleet]:
    """Two replicas that have loaded it."""
    fleet = Fleet(store)
    for replica in fleet.replicas:
        replica.dispatcher.start()
        await replica.load()
    yield fleet
    for replica in fleet.replicas:
        await replica.repository.close()
        await replica.dispatcher.close()


async def test_replicas_follow_and_keep_what_is_held(
    fleet: Fleet, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All load what is new; the former goes once no request at the ingress holds it."""
    for room in (replicated_repository, local_repository):  # what is held is not waited for
        monkeypatch.setattr(room, "UNLOAD_S", 0.1)
    repository = ReplicatedRepository(fleet)
    registry = await repository.open()
    held = [registry.version("m")]
    del registry
    publish(store, v="b")
    (entry,) = await repository.load("m")
    assert entry.state == "ready"
    assert fleet.loaded == [{"m 1 v a", "m 1 v b"}] * 2
    held.clear()
    await until(lambda: fleet.loaded == [{"m 1 v b"}] * 2)
    (entry,) = await repository.unload("m")
    assert (entry.serving, entry.reason) == (False, "was unloaded")
    await until(lambda: fleet.loaded == [set(), set()])
    await repository.close()


async def test_what_one_replica_refuses_all_let_go_of(fleet: Fleet, store: ModelStore) -> None:
    """And the former goes on serving on all of them."""
    repository = ReplicatedRepository(fleet)
    await repository.open()
    publish(store, v=BROKEN.decode())
    with pytest.raises(RefusedModelError, match="m 1: variant v: it is broken"):
        await repository.load("m")
    assert fleet.loaded == [{"m 1 v a"}] * 2
    with pytest.raises(UnknownModelError):
        await repository.load("none")
    await repository.close()


async def test_a_replica_loads_what_it_is_asked_for(fleet: Fleet, store: ModelStore) -> None:
    """One that did not hear of it; what is not in the store as it was is an error, not another file's votes."""
    late = fleet.replicas[1].repository
    publish(store, "2", v="b")
    await fleet.replicas[0].repository.load("m")
    session = fleet.replicas[0].repository.registry.sessions()[-1]
    assert session.version == "2"
    served = await hold(late, session)
    assert served.manifest.version == "2"
    assert fleet.loaded[1] == {"m 1 v a", "m 2 v b"}
    with pytest.raises(EngineError, match="m 2 v: its file has changed"):
        await hold(late, session._replace(file="another"))
