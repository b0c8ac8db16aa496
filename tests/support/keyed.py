"""A server with keys, as those who hold them and those who do not ask it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from noisevote.model_store.store import ModelStore
from noisevote.service.rest.access import access_at
from noisevote.service.rest.keys import key_line
from noisevote.service.settings import Settings
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES
from tests.support.serving import serve_to

ALICE = {"authorization": "Bearer alice"}
BOB = {"x-api-key": "bob"}
OPS = {"authorization": "bearer ops"}


@asynccontextmanager
async def keyed(
    store: ModelStore, folder: Path, engine: FakeEngine | None = None, quotas: dict[str, int] | None = None, **more: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with three keys, away from loopback; `quotas` are alice's."""
    path = folder / "keys.jsonl"
    alice = json.loads(key_line("alice", ["predict"], "alice")) | (quotas or {})
    lines = [json.dumps(alice), key_line("bob", ["predict"], "bob"), key_line("ops", ["admin"], "ops")]
    path.write_text("\n".join(lines))
    access = access_at(Settings(model_store=store.root, keys_file=path, **more), loopback=False)
    async with serve_to(access, store, engine or FakeEngine(CLASSES), keys_file=path, **more) as client:
        yield client
