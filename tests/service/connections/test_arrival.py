"""When a connection says that a request arrived."""

import asyncio
import time
from typing import Any
from unittest.mock import create_autospec

from uvicorn.config import Config
from uvicorn.server import ServerState

from noisevote.service.connections.protocol import LimitedProtocol, protocol_of
from noisevote.service.rest.edge import ARRIVED
from tests.service.connections.test_door import door


def connected(scopes: "asyncio.Queue[Any]") -> LimitedProtocol:
    """A connection of an application that notes its requests."""

    async def app(scope: Any, _: object, send: Any) -> None:
        scopes.put_nowait(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    config = Config(app, http=protocol_of(door()), log_config=None, ws="none")
    protocol = protocol_of(door())(config, ServerState(), {})
    transport = create_autospec(asyncio.Transport, instance=True)
    transport.get_extra_info.return_value = None
    transport.is_closing.return_value = False
    protocol.connection_made(transport)
    return protocol


async def test_each_request_arrives_with_its_first_byte() -> None:
    """Not when its head is complete, nor when its turn comes behind one on the same connection."""
    scopes: asyncio.Queue[Any] = asyncio.Queue()
    protocol = connected(scopes)
    before = time.perf_counter()
    protocol.data_received(b"GET /one HTTP/1.1\r\n")
    begun = time.perf_counter()
    protocol.data_received(b"host: a\r\n\r\nGET /two HTTP/1.1\r\n")
    second = time.perf_counter()
    protocol.data_received(b"host: a\r\n\r\n")
    assert scopes.empty()
    one, two = await scopes.get(), await scopes.get()
    assert (one["path"], two["path"]) == ("/one", "/two")
    assert before <= one[ARRIVED] <= begun <= two[ARRIVED] <= second
    protocol.connection_lost(None)
