from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from noisevote.model_store.store import ModelStore
from tests.support.serving import publish_tiny, serve


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with `tiny` version 1."""
    store = ModelStore(tmp_path / "models")
    publish_tiny(store)
    return store


@pytest.fixture
async def client(store: ModelStore) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `tiny`, on the kernel."""
    async with serve(store) as client:
        yield client
