"""Reads what clients send, a piece at a time and long ones of a few connections in each turn of the event loop.

In one turn an event loop reads from all connections on which something has come. A thousand clients that send a piece
of a long body at once would keep the others waiting for as long as it takes to make sense of a thousand pieces.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from noisevote.service.connections.loop_turns import LoopTurns

# What comes of a request is short up to this size: the smallest header, chunk or request takes some microseconds.
SHORT_BYTES: Final = 1024
# Most that is read at a time, of a body whose length was announced where the turn has room for it. Anything else may
# be made of thousands of headers, chunks or requests; and whoever waits for a turn holds what was read.
MOST_BYTES: Final = 96 * 1024
PIECE_BYTES: Final = 16 * 1024
# What every request has once, in its first line.
REQUEST_MARK: Final = b" HTTP/"


class Receiver(Protocol):
    """What makes sense of a connection's bytes, as a protocol of asyncio does."""

    @property
    def coming(self) -> int:
        """Bytes that have come of a request of which more must come."""

    @property
    def to_come(self) -> int:
        """Bytes that are known to come of the body of such a request."""

    @property
    def wants_more(self) -> bool:
        """It can take what comes next."""

    def connection_made(self, transport: asyncio.Transport) -> None: ...  # noqa: D102  # asyncio says it
    def arrived(self, seconds: float) -> None:
        """What comes next, the first of a request, arrived then, in seconds of the performance counter."""

    def data_received(self, data: bytes | memoryview) -> None:
        """These bytes have come. They are not kept where they are."""

    def eof_received(self) -> None: ...  # noqa: D102
    def connection_lost(self, exc: Exception | None) -> None: ...  # noqa: D102
    def pause_writing(self) -> None: ...  # noqa: D102
    def resume_writing(self) -> None: ...  # noqa: D102


class Reading:
    """What all connections of a server share to be read from in turns. Belongs to one event loop."""

    def __init__(self, turns: LoopTurns) -> None:
        self.turns = turns
        self._buffer = memoryview(bytearray(MOST_BYTES))  # nothing stays in it

    def buffer(self, reader: "Reader", to_come: int) -> memoryview:
        """Where a reader's next piece is to be put, if so many bytes of a body are known to come."""
        long = to_come > PIECE_BYTES and self.turns.room(reader)
        return self._buffer[: to_come if long else PIECE_BYTES]

    def piece(self, size: int) -> memoryview:
        """The piece that was put there, until the next one is."""
        return self._buffer[:size]


class Reader(asyncio.BufferedProtocol):
    """Reads from one connection.

    What comes of a request is passed on at once as long as it is shorter than `SHORT_BYTES`, in however many pieces.
    What makes it longer waits until there is a turn for it, and so do several requests at once and the connection's
    end. `waited` tells for how many seconds what is to be read next has waited.
    """

    __slots__ = ("_ended", "_held", "_reading", "_receiver", "_transport", "_waited")
    _transport: asyncio.Transport

    def __init__(self, receiver: Receiver, reading: Reading, waited: Callable[[], float]) -> None:
        self._receiver = receiver
        self._reading = reading
        self._waited = waited
        self._held = b""
        self._ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it reads and writes
        """Begin."""
        self._transport = transport
        self._receiver.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio passes it
        """Where the next piece is to be put, which is there."""
        if not self._receiver.coming:
            self._receiver.arrived(time.perf_counter() - self._waited())
        return self._reading.buffer(self, self._receiver.to_come)

    def buffer_updated(self, nbytes: int) -> None:
        """Pass a piece on, or hold it and read no more."""
        piece = self._reading.piece(nbytes)
        if self._receiver.coming + nbytes < SHORT_BYTES and bytes(piece).count(REQUEST_MARK) <= 1:
            self._receiver.data_received(piece)
        elif self._reading.turns.arrive(self):
            self._reading.turns.spend(partial(self._receiver.data_received, piece))
        else:
            self._held = bytes(piece)
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """End the connection, or keep it open for the time being."""
        self._ended = not self._reading.turns.arrive(self)
        if not self._ended:
            self._receiver.eof_received()
        return self._ended

    def go_on(self) -> None:
        """It is this connection's turn."""
        held, self._held = self._held, b""
        if self._transport.is_closing():  # it was dropped, and will be lost in a moment
            return
        if held:
            self._receiver.data_received(held)
        if self._ended:
            self._receiver.eof_received()
            self._transport.close()
        elif self._receiver.wants_more:
            self._transport.resume_reading()

    def drop(self) -> None:
        """Close the connection at once, without a word."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._reading.turns.leave(self)
        self._held = b""
        self._receiver.connection_lost(exc)

    def pause_writing(self) -> None:
        """Its client does not take its answer."""
        self._receiver.pause_writing()

    def resume_writing(self) -> None:
        """Its client takes its answer again."""
        self._receiver.resume_writing()
