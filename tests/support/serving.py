"""A model `tiny` in a store, and the whole application around a store, within the test's own process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final
from unittest.mock import patch

import httpx

from noisevote.client import AsyncClient
from noisevote.model_store.manifest import Manifest
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.library import load_kernel
from noisevote.service.app import create_app
from noisevote.service.rest.access import NO_KEYS, Access
from noisevote.service.runtime import Runtime
from noisevote.service.scheduling.batch_size import BatchProfile
from noisevote.service.scheduling.engine import Engine
from noisevote.service.settings import Settings
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES, SHAPE, tiny_network
from tests.support.manifests import manifest, point, variant
from tests.support.once_tried import OnceTriedEngine

# Whoever asks may come in: for tests of everything else.
OPEN: Final = Access(keys=lambda: NO_KEYS, keyless=True)


def publish_tiny(store: ModelStore, version: str = "1", shape: tuple[int, ...] = SHAPE, name: str = "tiny") -> Manifest:
    """A model `tiny` with two variants: `mul-0.0` measured best without noise, `mul-0.8` best with."""
    files = {"mul-0.0": tiny_network(0, shape=shape), "mul-0.8": tiny_network(1, shape=shape)}
    tables = {
        "mul-0.0": [point(0.0, 0.9), point(1.0, 0.1), point(1.0, 0.1, noise="additive")],
        "mul-0.8": [point(0.0, 0.8), point(1.0, 0.7), point(1.0, 0.7, noise="additive")],
    }
    variants = tuple(
        variant(name, content, sigma_train=float(name[-3:]), accuracy=tables[name]) for name, content in files.items()
    )
    classes = tuple(f"class {index}" for index in range(CLASSES))
    published = manifest(files, name, version, shape, classes=classes, variants=variants)
    store.publish(published, files)
    return published


@asynccontextmanager
async def serve(store: ModelStore, engine: Engine | None = None, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the whole application, started, loaded and in the end closed as a server does it."""
    async with serve_to(OPEN, store, engine, **settings) as client:
        yield client


@asynccontextmanager
async def serve_to(
    access: Access | None, store: ModelStore, engine: Engine | None = None, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """The same for whoever may come in; None: what the application decides by itself."""
    started = asyncio.Event()
    values: dict[str, Any] = {"model_store": store.root, "threads": 2} | settings

    def on_start(_: Runtime) -> None:
        started.set()

    app = create_app(Settings(**values), engine or OnceTriedEngine(load_kernel()), on_start, access)
    unmeasured = patch(
        "noisevote.service.models.loading.measure", lambda *arguments: BatchProfile(arguments[3], 0.0, ())
    )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://tiny", timeout=30) as client,
    ):
        with unmeasured if isinstance(engine, FakeEngine) else nullcontext():  # it shall see the requests alone
            await asyncio.wait_for(started.wait(), 30)
        yield client


def client_of(http: httpx.AsyncClient, **arguments: Any) -> AsyncClient:
    """Our client of an application that is served within this process."""
    return AsyncClient(str(http.base_url), transport=http._transport, **arguments)
