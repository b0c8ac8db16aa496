"""How many connections are accepted at a time, and what happens where there is no room for one."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from noisevote.service.connections import accepting
from noisevote.service.connections.accepting import AT_ONCE, LONG_TURN_S, Acceptor

CLIENTS = 3 * AT_ONCE + 5


class Full(socket.socket):
    """A listening socket whose process may open no more files, the first times."""

    left = 2

    def accept(self) -> tuple[socket.socket, object]:
        if self.left:
            self.left -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


class Welcomed(asyncio.Protocol):
    """A connection of the server."""

    transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(kind: type[socket.socket]) -> socket.socket:
    """On a free port of loopback, with room for all clients to wait."""
    made = kind(socket.AF_INET, socket.SOCK_STREAM)
    made.bind(("127.0.0.1", 0))
    made.listen(CLIENTS)
    return made


@pytest.mark.parametrize("kind", [socket.socket, Full])
async def test_connections_are_accepted_a_few_at_a_turn(
    kind: type[socket.socket], clients: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them in the end, also once there is room again, of which the log tells."""
    monkeypatch.setattr(accepting, "PAUSE_S", 0)
    warnings: list[str] = []
    welcomed: list[Welcomed] = []

    def welcome(_: socket.socket) -> asyncio.Protocol:
        welcomed.append(Welcomed())
        return welcomed[-1]

    server = clients.enter_context(listening(kind))
    for _ in range(CLIENTS):
        clients.enter_context(socket.create_connection(server.getsockname()))
    acceptor = Acceptor(server, welcome, lambda message, about: warnings.append(message % about))
    acceptor.start()
    async with asyncio.timeout(30):
        while not (len(welcomed) == CLIENTS and all(each.transport for each in welcomed)):
            before = len(welcomed)
            await asyncio.sleep(0)
            assert len(welcomed) - before <= AT_ONCE
    acceptor.close()
    for each in welcomed:
        assert each.transport is not None
        each.transport.close()
    assert [each for each in warnings if "Too many open files" in each] == warnings
    assert len(warnings) == (2 if kind is Full else 0)


async def test_after_long_turns_fewer_are_accepted(clients: ExitStack) -> None:
    """Half as many after each, at least one; and one more after each that was not long."""
    seconds, found, welcomed = 0.0, list[int](), list[Welcomed]()

    def welcome(_: socket.socket) -> asyncio.Protocol:
        welcomed.append(Welcomed())
        return welcomed[-1]

    server = clients.enter_context(listening(socket.socket))
    for _ in range(CLIENTS):
        clients.enter_context(socket.create_connection(server.getsockname()))
    loop = asyncio.get_running_loop()
    acceptor = Acceptor(server, welcome, lambda *_: None, lambda: seconds)
    server.setblocking(False)
    for turn in range(9):
        seconds += 2 * LONG_TURN_S if turn <= 5 else LONG_TURN_S / 2
        acceptor._accept(loop)
        found.append(len(acceptor._welcoming))
        await asyncio.gather(*acceptor._welcoming)
    for each in welcomed:
        assert each.transport is not None
        each.transport.close()
    assert found == [AT_ONCE, 8, 4, 2, 1, 1, 2, 3, 4]
    assert len(welcomed) == sum(found)


async def test_a_closed_acceptor_accepts_nothing(clients: ExitStack) -> None:
    """Whoever connects then waits for the socket to be closed."""
    server = clients.enter_context(listening(socket.socket))
    acceptor = Acceptor(server, lambda _: asyncio.Protocol(), lambda *_: None)
    acceptor.start()
    acceptor.close()
    clients.enter_context(socket.create_connection(server.getsockname()))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not acceptor._welcoming
