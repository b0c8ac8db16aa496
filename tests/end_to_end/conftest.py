from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.support.process import TIMEOUT_S, fresh_server, start_line


@pytest.fixture(scope="session")
def published() -> Iterator[str]:
    """Address of a server of the repository's own models, as `make serve` starts it; loading them takes seconds."""
    with fresh_server("--port", "0") as process:
        yield start_line(process)[1]


@pytest.fixture
async def client(published: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the repository's own models."""
    async with httpx.AsyncClient(base_url=published, timeout=TIMEOUT_S) as client:
        yield client
