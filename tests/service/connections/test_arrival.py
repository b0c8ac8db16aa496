"""When a connection says that a request arrived."""

import asyncio
import socket
import struct
import time
from typing import Any
from unittest.mock import create_autospec

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from noisevote.service.connections.arrival import LONGEST_S, stamp_what_comes, waited_s
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


async def test_a_request_arrived_when_the_reader_says_so() -> None:
    """One that follows on the same connection is on its own again."""
    scopes: asyncio.Queue[Any] = asyncio.Queue()
    protocol = connected(scopes)
    protocol.arrived(12.5)
    protocol.data_received(b"GET /one HTTP/1.1\r\nhost: a\r\n\r\n")
    before = time.perf_counter()
    protocol.data_received(b"GET /two HTTP/1.1\r\nhost: a\r\n\r\n")
    one, two = await scopes.get(), await scopes.get()
    assert one[ARRIVED] == 12.5
    assert two[ARRIVED] >= before
    protocol.connection_lost(None)


@pytest.fixture
def ends() -> Any:
    """A connection's two ends, the server's first; what comes there is stamped where the system can do so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stamp_what_comes(listening)
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
        with client, server:
            yield server, client


def test_bytes_wait_from_their_stamp_until_they_are_read(ends: tuple[socket.socket, socket.socket]) -> None:
    """At least since they were sent, and looking does not read them; none wait where none are."""
    server, client = ends
    assert waited_s(server) == 0.0
    for _ in range(1000):  # Linux begins to stamp some time after it was asked to
        before = time.time_ns()
        client.sendall(b"ab")
        sent = time.time_ns()
        server.recvmsg(1, 0, socket.MSG_PEEK)  # until they are there
        since = (time.time_ns() - sent) / 1e9
        waited = waited_s(server)
        most = (time.time_ns() - before) / 1e9
        assert server.recv(16) == b"ab"
        if waited:
            break
    else:
        pytest.skip("this system does not stamp what comes by TCP")
    assert since <= waited <= most
    server.close()
    assert waited_s(server) == 0.0


@pytest.mark.parametrize("seconds", [-1, int(LONGEST_S) + 1])
def test_a_stamp_of_another_clock_is_not_believed(seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody set it since: nothing waits less than no time, or for minutes."""

    class Connection:
        def recvmsg(self, *_: int) -> Any:
            stamp = struct.pack("@qq", 1_000, 0)
            return b"a", [(socket.SOL_SOCKET, 35, stamp)], 0, None

    monkeypatch.setattr(time, "time_ns", lambda: (1_000 + seconds) * 10**9)
    assert waited_s(Connection()) == 0.0  # type: ignore[arg-type]  # as much of one as is asked
    monkeypatch.setattr(time, "time_ns", lambda: 1_002 * 10**9)
    assert waited_s(Connection()) == 2.0  # type: ignore[arg-type]  # the same
