"""How many answers begin in a turn of the event loop, and of whom."""

import asyncio
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from noisevote.service.connections.door import Door
from noisevote.service.connections.limits import ConnectionLimits, OpenConnections
from noisevote.service.connections.loop_turns import AT_ONCE
from noisevote.service.connections.protocol import LimitedProtocol, protocol_of
from noisevote.service.connections.reading import PIECE_BYTES
from noisevote.service.settings import Settings
from noisevote.service.unread import UnreadBytes

CLIENTS = 3 * AT_ONCE
PART = b"POST /v1/models/tiny/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n["
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Transport(asyncio.Transport):
    """A transport that sends nothing."""

    def pause_reading(self) -> None:
        """Read no more."""

    def resume_reading(self) -> None:
        """Read again."""

    def close(self) -> None:
        """End."""

    def is_closing(self) -> bool:
        """It stays open."""
        return False


class Clients:
    """Connections of an application that notes when it begins with a path, and waits for the body."""

    def __init__(self, count: int) -> None:
        self.begun: list[str] = []
        connections = OpenConnections[Any](ConnectionLimits(connections=1000))
        make = protocol_of(Door(Settings(), connections, UnreadBytes(2**20), lambda _: None))
        config, state = Config(self._answer, interface="asgi3", log_config=None), ServerState()
        config.load()
        self.protocols: list[LimitedProtocol] = [make(config, state, {}) for _ in range(count)]
        for protocol in self.protocols:
            protocol.connection_made(Transport())

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002  # as ASGI has it
        self.begun.append(scope["path"])
        while (await receive())["type"] != "http.disconnect":
            pass

    def leave(self) -> None:
        """Let all clients leave."""
        for protocol in self.protocols:
            protocol.connection_lost(None)


async def test_few_answers_begin_in_a_turn() -> None:
    """Of clients that send a header and a little of a body, all at once; in the end all have begun, each once."""
    clients = Clients(CLIENTS)
    for protocol in clients.protocols:
        protocol.data_received(PART)
    turns = 0
    while len(clients.begun) < CLIENTS:
        before = len(clients.begun)
        await asyncio.sleep(0)
        assert len(clients.begun) - before <= AT_ONCE
        turns += 1
        assert turns < CLIENTS
    await asyncio.sleep(0)
    assert len(clients.begun) == CLIENTS
    clients.leave()


async def test_a_monitor_does_not_wait_for_others() -> None:
    """Its answer begins in the next turn, however many wait to begin."""
    clients = Clients(CLIENTS + 1)
    *others, monitor = clients.protocols
    for protocol in others:
        protocol.data_received(PART)
    monitor.data_received(HEALTH)
    await asyncio.sleep(0)
    assert "/healthz" in clients.begun
    clients.leave()


async def test_whose_client_leaves_before_its_turn_never_begins() -> None:
    """Nor does it keep those behind it."""
    clients = Clients(AT_ONCE + 2)
    for protocol in clients.protocols:
        protocol.data_received(PART)
    clients.protocols[AT_ONCE].connection_lost(None)
    for _ in range(4):
        await asyncio.sleep(0)
    assert len(clients.begun) == AT_ONCE + 1
    clients.leave()


async def test_a_client_that_leaves_is_told_to_the_answer_that_was_begun() -> None:
    """Not only to the last of several requests that came at once."""
    clients = Clients(1)
    protocol = clients.protocols[0]
    protocol.data_received(PART.replace(b"1000", b"1") + HEALTH)
    await asyncio.sleep(0)
    first = protocol._answering
    assert first is not None
    assert first is not protocol.cycle
    protocol.connection_lost(None)
    assert first.disconnected
    assert protocol.cycle.disconnected


async def test_spaces_behind_a_value_are_no_part_of_it() -> None:
    """Else a key, a host or a content type that a client pads would be unknown."""
    clients = Clients(1)
    protocol = clients.protocols[0]
    protocol.data_received(b"GET / HTTP/1.1\r\nhost:  localhost \t\r\nx-api-key: a b \r\nempty: \r\n\r\n")
    assert protocol.headers == [(b"host", b"localhost"), (b"x-api-key", b"a b"), (b"empty", b"")]
    clients.leave()


async def test_what_follows_a_body_is_no_header() -> None:
    """Else a trailer would bring a key, an origin or a host that a proxy has taken away or never saw."""
    clients = Clients(1)
    protocol = clients.protocols[0]
    protocol.data_received(
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nx-api-key: own\r\n\r\n"
        b"1\r\na\r\n0\r\nx-api-key: other\r\nhost: other\r\n\r\n" + HEALTH
    )
    first = protocol._answering
    assert first is not None
    own = [(b"host", b"a"), (b"transfer-encoding", b"chunked"), (b"x-api-key", b"own")]
    assert first.scope["headers"] == own
    assert list(protocol.scope["headers"]) == [(b"host", b"localhost")]
    clients.leave()


class Written(Transport):
    """A transport that notes what it is to send."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.ended = asyncio.Event()

    def write(self, data: Any) -> None:
        """Note it."""
        self.sent += data

    def writelines(self, list_of_data: Any) -> None:
        """Note them."""
        self.sent += b"".join(list_of_data)

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def write_eof(self) -> None:
        """Nothing follows."""
        self.ended.set()


async def whole_body(receive: Any) -> bytes:
    """What comes of a request's body, to its end."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


@pytest.mark.parametrize(
    ("follows", "status"),
    [
        (b"garbage\r\n\r\n", b"400"),
        (b"GET  HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000, b"431"),
        (b"CONNECT x:1 HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /third HTTP/1.1\r\n\r\n", b"400"),
        (b"POST /third HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"501"),
        (b"POST /third HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nno chunk\r\n", b"400"),
    ],
)
async def test_what_is_not_taken_waits_for_the_answers_before_it(follows: bytes, status: bytes) -> None:
    """Two requests and what is none: each has its own answer, and the connection ends with the refusal."""
    may_answer = asyncio.Event()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        body = await whole_body(receive)
        await may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode() + body})

    make = protocol_of(Door(Settings(), OpenConnections[Any](ConnectionLimits(10)), UnreadBytes(2**20), lambda _: None))
    config, transport = Config(answer, interface="asgi3", log_config=None), Written()
    config.load()
    protocol = make(config, ServerState(), {})
    protocol.connection_made(transport)
    first = b"POST /first HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab"
    sent = first + b"GET /second HTTP/1.1\r\nhost: a\r\n\r\n" + follows
    for start in range(0, len(sent), PIECE_BYTES):
        protocol.data_received(sent[start : start + PIECE_BYTES])
    protocol.data_received(b"GET /fourth HTTP/1.1\r\nhost: a\r\n\r\n")
    for _ in range(3):
        await asyncio.sleep(0)
    assert not transport.sent
    may_answer.set()
    await transport.ended.wait()
    heads = [each[: len(b"HTTP/1.1 200")] for each in transport.sent.split(b"\r\n") if each.startswith(b"HTTP/1.1 ")]
    assert heads == [b"HTTP/1.1 200", b"HTTP/1.1 200", b"HTTP/1.1 " + status]
    assert transport.sent.index(b"/firstab") < transport.sent.index(b"/second") < transport.sent.index(status + b" ")
    protocol.connection_lost(None)


async def test_what_cannot_be_parsed_of_a_request_that_is_being_answered_is_refused_at_once() -> None:
    """Its answer would be of a body that never came."""
    clients = Clients(1)
    (protocol,) = clients.protocols
    transport = Written()
    protocol.transport = transport
    protocol.data_received(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\nno chunk\r\n")
    assert transport.sent.startswith(b"HTTP/1.1 400 ")
    clients.leave()
