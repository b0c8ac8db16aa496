"""A store whose versions come, change and go, and a server whose engine knows which of them are loaded."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from noisevote.engine.errors import BadModelError
from noisevote.engine.feeds import Feeds
from noisevote.engine.session_key import SessionKey
from noisevote.model_store.manifest import Manifest
from noisevote.model_store.store import ModelStore
from tests.support.engines import FakeEngine, fake_logits
from tests.support.keyed import ALICE, OPS, keyed
from tests.support.manifests import manifest

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


def one_version(folder: Path) -> ModelStore:
    """A store with version 1 of a model."""
    store = ModelStore(folder / "models")
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
