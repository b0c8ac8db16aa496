from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from noisevote.model_store.store import ModelStore
from tests.support.serving import publish_tiny, serve


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `tiny`, on the kernel, for all tests of a file, which then share one event loop."""
    store = ModelStore(Path(tmp_path_factory.mktemp("served")) / "models")
    publish_tiny(store)
    async with serve(store) as client:
        yield client
