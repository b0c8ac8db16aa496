from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from noisevote.client import AsyncClient
from noisevote.model_store.store import ModelStore
from tests.support.serving import client_of, publish_tiny, serve
from tests.support.smoothed import publish_smoothed


@pytest.fixture(autouse=True)
def of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server or key of whoever runs the tests."""
    for name in ("NOISEVOTE_URL", "NOISEVOTE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """A store with `tiny`, and `smooth`, which certifies."""
    store = ModelStore(Path(tmp_path_factory.mktemp("store")))
    publish_tiny(store)
    publish_smoothed(store)
    return store


@pytest.fixture
async def client(store: ModelStore) -> AsyncIterator[AsyncClient]:
    """Our client of the whole application, without a socket between."""
    async with serve(store) as http, client_of(http) as client:
        yield client
