"""How much of what thousands of clients send is read in a turn of the event loop."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

import pytest

from noisevote.service.connections.loop_turns import AT_ONCE, LONG_S, LoopTurns
from noisevote.service.connections.reading import MOST_BYTES, PIECE_BYTES, SHORT_BYTES, Reader, Reading

CLIENTS = 5 * AT_ONCE + 3


class Transport:
    """A transport that notes whether it is read from."""

    def __init__(self) -> None:
        self.reading = True
        self.closed = False

    def pause_reading(self) -> None:
        """Read no more."""
        self.reading = False

    def resume_reading(self) -> None:
        """Read again."""
        self.reading = True

    def close(self) -> None:
        """End."""
        self.closed = True

    def abort(self) -> None:
        """End at once."""
        self.closed = True

    def is_closing(self) -> bool:
        """Whether it ends."""
        return self.closed


@dataclass
class Receiver:
    """What has come by one connection, and when; `pieces` is shared by all."""

    pieces: list[tuple[int, bytes]]
    number: int
    coming: int = 0
    to_come: int = MOST_BYTES
    wants_more: bool = True
    calls: list[str] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)

    def arrived(self, seconds: float) -> None:
        """Note it."""
        self.arrivals.append(seconds)

    def connection_made(self, transport: asyncio.Transport) -> None:  # noqa: ARG002  # as protocols have it
        """Note it."""
        self.calls.append("made")

    def data_received(self, data: bytes | memoryview) -> None:
        """Note it."""
        self.pieces.append((self.number, bytes(data)))
        self.coming += len(data)

    def eof_received(self) -> None:
        """Note it."""
        self.calls.append("end")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the same
        """Note it."""
        self.calls.append("lost")

    def pause_writing(self) -> None:
        """Note it."""
        self.calls.append("pause")

    def resume_writing(self) -> None:
        """Note it."""
        self.calls.append("resume")


class Clients:
    """Connections of one server, whose bytes a test brings."""

    def __init__(self, count: int) -> None:
        self.now = 0.0
        self.waited = 0.0  # each piece, until it is read
        self.reading = Reading(LoopTurns(lambda: self.now))
        self.pieces: list[tuple[int, bytes]] = []
        self.receivers = [Receiver(self.pieces, number) for number in range(count)]
        self.readers = [Reader(receiver, self.reading, lambda: self.waited) for receiver in self.receivers]
        self.transports = [Transport() for _ in range(count)]
        for reader, transport in zip(self.readers, self.transports, strict=True):
            reader.connection_made(cast("asyncio.Transport", transport))

    def send(self, number: int, data: bytes) -> None:
        """Let a piece come by a connection that is read from."""
        assert self.transports[number].reading
        buffer = self.readers[number].get_buffer(-1)
        buffer[: len(data)] = data
        self.readers[number].buffer_updated(len(data))

    def paused(self) -> int:
        """How many connections are not read from."""
        return sum(not transport.reading for transport in self.transports)


def piece(number: int) -> bytes:
    """The largest piece, which tells by whom it was sent."""
    return bytes([number]) * PIECE_BYTES


async def test_long_pieces_of_a_few_are_made_sense_of_in_a_turn() -> None:
    """All of them in the end, in the order in which they came and unchanged; meanwhile the others are not read from."""
    clients = Clients(CLIENTS)
    for number in range(CLIENTS):
        clients.send(number, piece(number))
    assert len(clients.pieces) == AT_ONCE
    assert clients.paused() == CLIENTS - AT_ONCE
    while clients.paused():
        before = len(clients.pieces)
        await asyncio.sleep(0)
        assert len(clients.pieces) - before <= AT_ONCE
    assert clients.pieces == [(number, piece(number)) for number in range(CLIENTS)]


async def test_short_requests_never_wait() -> None:
    """However many come at once, and however long a queue others stand in; in one piece or in two."""
    clients = Clients(3 * CLIENTS)
    for number in range(CLIENTS):
        clients.send(number, piece(number))
    waiting = clients.paused()
    for number in range(CLIENTS, 3 * CLIENTS):
        clients.send(number, b"head")
        clients.send(number, b"body")
        assert clients.pieces[-2:] == [(number, b"head"), (number, b"body")]
    assert clients.paused() == waiting > 0


async def test_a_body_in_short_pieces_waits_once_it_is_long() -> None:
    """Nobody passes by cutting what is long."""
    clients = Clients(AT_ONCE + 1)
    for number in range(AT_ONCE):
        clients.send(number, piece(number))
    for _ in range(3):
        clients.send(AT_ONCE, bytes(SHORT_BYTES // 4))
    assert not clients.paused()
    clients.send(AT_ONCE, bytes(SHORT_BYTES // 4))
    assert clients.paused() == 1


async def test_a_few_clients_read_on_in_every_turn() -> None:
    """As many pieces of theirs as come: ordinary uploads are not slower for this."""
    clients = Clients(AT_ONCE)
    for _ in range(5):
        for number in range(AT_ONCE):
            for _ in range(3):
                clients.send(number, piece(number))
        assert not clients.paused()
        await asyncio.sleep(0)
    assert len(clients.pieces) == 5 * 3 * AT_ONCE


async def test_few_connections_end_in_a_turn() -> None:
    """Clients that leave together are forgotten one after another, each once and only when it is its turn."""
    clients = Clients(CLIENTS)
    kept = [reader.eof_received() for reader in clients.readers]
    assert kept == [number >= AT_ONCE for number in range(CLIENTS)]
    while not all("end" in receiver.calls for receiver in clients.receivers):
        before = sum(transport.closed for transport in clients.transports)
        await asyncio.sleep(0)
        assert sum(transport.closed for transport in clients.transports) - before <= AT_ONCE
    assert [transport.closed for transport in clients.transports] == kept
    assert all(receiver.calls == ["made", "end"] for receiver in clients.receivers)


async def test_who_waits_holds_one_short_piece() -> None:
    """Where the turn has room more is read at a time, as uploads need it."""
    clients = Clients(AT_ONCE + 1)
    assert all(len(reader.get_buffer(-1)) == MOST_BYTES for reader in clients.readers)
    for number in range(AT_ONCE):
        clients.send(number, bytes(MOST_BYTES))
    assert [len(reader.get_buffer(-1)) for reader in clients.readers] == [MOST_BYTES] * AT_ONCE + [PIECE_BYTES]


async def test_a_connection_that_is_lost_does_not_go_on() -> None:
    """Nor is what it held made sense of; those behind it are not kept."""
    clients = Clients(AT_ONCE + 2)
    for number in range(AT_ONCE + 2):
        clients.send(number, piece(number))
    clients.readers[AT_ONCE].connection_lost(None)
    for _ in range(4):
        await asyncio.sleep(0)
    assert [number for number, _ in clients.pieces] == [*range(AT_ONCE), AT_ONCE + 1]
    assert clients.receivers[AT_ONCE].calls == ["made", "lost"]


async def test_who_cannot_take_more_is_not_read_from() -> None:
    """It reads on by itself once it can."""
    clients = Clients(AT_ONCE + 1)
    clients.receivers[AT_ONCE].wants_more = False
    for number in range(AT_ONCE + 1):
        clients.send(number, piece(number))
    for _ in range(4):
        await asyncio.sleep(0)
    assert len(clients.pieces) == AT_ONCE + 1
    assert not clients.transports[AT_ONCE].reading


async def test_a_turn_that_took_long_is_over() -> None:
    """However few have gone on in it; everybody else does so in a later one."""
    clients = Clients(4)
    for receiver in clients.receivers:
        receiver.data_received = Slow(receiver, clients)  # type: ignore[method-assign]
    for number in range(4):
        clients.send(number, piece(number))
    assert [number for number, _ in clients.pieces] == [0]
    for turn in range(1, 4):
        await asyncio.sleep(0)
        assert len(clients.pieces) == turn + 1
    assert clients.pieces == [(number, piece(number)) for number in range(4)]
    assert not clients.paused()


class Slow:
    """Takes a piece, and the rest of a turn."""

    def __init__(self, receiver: Receiver, clients: Clients) -> None:
        self._receive = receiver.data_received
        self._clients = clients

    def __call__(self, data: bytes | memoryview) -> None:
        """Take it."""
        self._clients.now += LONG_S * 1.1
        self._receive(data)


async def test_what_may_be_made_of_thousands_of_things_is_read_in_short_pieces() -> None:
    """Headers, chunks and requests; of a body of a known length no more is read than it has, then what follows it."""
    clients = Clients(1)
    for to_come, size in ((0, PIECE_BYTES), (1, PIECE_BYTES), (PIECE_BYTES + 1, PIECE_BYTES + 1), (2**70, MOST_BYTES)):
        clients.receivers[0].to_come = to_come
        assert len(clients.readers[0].get_buffer(-1)) == size


async def test_several_requests_at_once_wait() -> None:
    """Each may cost as much as another connection's only one."""
    clients = Clients(AT_ONCE + 2)
    for number in range(AT_ONCE):
        clients.send(number, piece(number))
    one = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    clients.send(AT_ONCE, 2 * one)
    clients.send(AT_ONCE + 1, one)
    assert not clients.transports[AT_ONCE].reading
    assert clients.transports[AT_ONCE + 1].reading


async def test_a_connection_that_fails_in_its_turn_fails_alone() -> None:
    """It is closed; those behind it go on."""
    clients = Clients(AT_ONCE + 3)
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))
    for number in range(AT_ONCE + 3):
        clients.send(number, piece(number))

    def fail(data: bytes | memoryview) -> None:
        raise ValueError(f"{len(data)} bytes")

    clients.receivers[AT_ONCE].data_received = fail  # type: ignore[method-assign]
    await asyncio.sleep(0)
    assert told == [f"{PIECE_BYTES} bytes"]
    assert [transport.closed for transport in clients.transports[AT_ONCE:]] == [True, False, False]
    assert [number for number, _ in clients.pieces] == [*range(AT_ONCE), AT_ONCE + 1, AT_ONCE + 2]


@pytest.mark.parametrize("ended", [False, True])
async def test_a_connection_that_was_dropped_does_not_go_on(ended: bool) -> None:
    """Its loss is told in a moment, and what it held might begin a request that nobody waits for."""
    clients = Clients(AT_ONCE + 1)
    for number in range(AT_ONCE):
        clients.send(number, piece(number))
    if ended:
        assert clients.readers[AT_ONCE].eof_received()
    else:
        clients.send(AT_ONCE, piece(AT_ONCE))
    clients.transports[AT_ONCE].abort()
    await asyncio.sleep(0)
    assert len(clients.pieces) == AT_ONCE
    assert clients.receivers[AT_ONCE].calls == ["made"]


def test_a_request_arrived_before_it_is_read() -> None:
    """By as long as its first piece has waited; what follows of it arrived later."""
    clients = Clients(1)
    (receiver,) = clients.receivers
    clients.waited = 3600.0
    before = time.perf_counter()
    clients.send(0, b"GET / HT")
    after = time.perf_counter()
    clients.send(0, b"TP/1.1\r\n")
    assert len(receiver.arrivals) == 1
    assert before <= receiver.arrivals[0] + 3600.0 <= after
