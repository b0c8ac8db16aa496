"""Reads what clients send, a piece at a time and long ones of a few connections in each turn of the event loop.

In one turn an event loop reads from all connections on which something has come. A thousand clients that send a piece
of a long body at once would keep the others waiting for as long as it takes to make sense of a thousand pieces.
"""

import asyncio
from typing import Final, Protocol

from noisevote.service.connections.turnstile import Turnstile

# Making sense of the piece with which a body begins takes some tenths of a millisecond.
AT_ONCE: Final = 16
# Most that is read at a time, and most where the turn has room for no more long pieces: whoever waits for a turn holds
# that much, and what follows waits in the system.
MOST_BYTES: Final = 256 * 1024
PIECE_BYTES: Final = 16 * 1024


class Receiver(Protocol):
    """What makes sense of a connection's bytes, as a protocol of asyncio does."""

    @property
    def coming(self) -> int:
        """Bytes that have come of a request of which more must come."""

    @property
    def wants_more(self) -> bool:
        """It can take what comes next."""

    def connection_made(self, transport: asyncio.Transport) -> None: ...  # noqa: D102  # asyncio says it
    def data_received(self, data: bytes) -> None: ...  # noqa: D102
    def eof_received(self) -> None: ...  # noqa: D102
    def connection_lost(self, exc: Exception | None) -> None: ...  # noqa: D102
    def pause_writing(self) -> None: ...  # noqa: D102
    def resume_writing(self) -> None: ...  # noqa: D102


class Reading:
    """What all connections of a server share to be read from in turns. Belongs to one event loop."""

    def __init__(self) -> None:
        self._turnstile = Turnstile[Reader](AT_ONCE)
        self._turning = False
        self._buffer = memoryview(bytearray(MOST_BYTES))  # nothing stays in it
        self._short_buffer = self._buffer[:PIECE_BYTES]

    def buffer(self, reader: "Reader") -> memoryview:
        """Where a reader's next piece is to be put."""
        return self._buffer if self._turnstile.room(reader) else self._short_buffer

    def piece(self, size: int) -> bytes:
        """The piece that was put there."""
        return bytes(self._buffer[:size])

    def arrive(self, reader: "Reader") -> bool:
        """Whether a reader may go on now; otherwise its `go_on` is called in a later turn."""
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)
        return self._turnstile.arrive(reader)

    def leave(self, reader: "Reader") -> None:
        """It need not go on."""
        self._turnstile.leave(reader)

    def _turn(self) -> None:
        passing = self._turnstile.turn()
        self._turning = bool(passing)  # the turn after those, at least, has to begin for others
        if passing:
            asyncio.get_running_loop().call_soon(self._turn)
        for reader in passing:
            reader.go_on()


class Reader(asyncio.BufferedProtocol):
    """Reads from one connection.

    What comes of a request is passed on at once as long as it is shorter than `PIECE_BYTES`, in however many pieces.
    What makes it longer waits until there is a turn for it, and so does the connection's end.
    """

    __slots__ = ("_ended", "_held", "_reading", "_receiver", "_transport")
    _transport: asyncio.Transport

    def __init__(self, receiver: Receiver, reading: Reading) -> None:
        self._receiver = receiver
        self._reading = reading
        self._held = b""
        self._ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it reads and writes
        """Begin."""
        self._transport = transport
        self._receiver.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio passes it
        """Where the next piece is to be put."""
        return self._reading.buffer(self)

    def buffer_updated(self, nbytes: int) -> None:
        """Pass a piece on, or hold it and read no more."""
        piece = self._reading.piece(nbytes)
        if self._receiver.coming + nbytes < PIECE_BYTES or self._reading.arrive(self):
            self._receiver.data_received(piece)
        else:
            self._held += piece
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """End the connection, or keep it open for the time being."""
        self._ended = not self._reading.arrive(self)
        if not self._ended:
            self._receiver.eof_received()
        return self._ended

    def go_on(self) -> None:
        """It is this connection's turn."""
        held, self._held = self._held, b""
        if held:
            self._receiver.data_received(held)
        if self._ended:
            self._receiver.eof_received()
            self._transport.close()
        elif self._receiver.wants_more:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._reading.leave(self)
        self._held = b""
        self._receiver.connection_lost(exc)

    def pause_writing(self) -> None:
        """Its client does not take its answer."""
        self._receiver.pause_writing()

    def resume_writing(self) -> None:
        """Its client takes its answer again."""
        self._receiver.resume_writing()
