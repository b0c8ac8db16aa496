"""How many answers begin in a turn of the event loop, and of whom."""

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from noisevote.service.connections.door import Door
from noisevote.service.connections.limits import ConnectionLimits, OpenConnections
from noisevote.service.connections.loop_turns import AT_ONCE
from noisevote.service.connections.protocol import LimitedProtocol, protocol_of
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
