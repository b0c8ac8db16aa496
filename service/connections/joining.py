"""Sends the header of an answer together with the beginning of its body."""

import asyncio
from typing import Any


class JoiningTransport:
    """A connection's transport as one answer sees it.

    The server writes a header and then a body, and each write is a system call, a packet, and a reason for the client
    to wake up. So the first write waits for the second one, until the event loop's next turn at most.
    """

    __slots__ = ("_flushing", "_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None
        self._flushing: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        """Send, or hold what comes first for what follows."""
        if self._flushing is None:
            self._held = data
            self._flushing = self._loop.call_soon(self.flush)
        elif self._held is None:
            self._transport.write(data)
        else:
            held, self._held = self._held, None
            self._flushing.cancel()
            self._transport.writelines((held, data))

    def flush(self) -> None:
        """Send what is held."""
        if self._held is not None:
            held, self._held = self._held, None
            self._transport.write(held)

    def close(self) -> None:
        """Close the connection once all is sent."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
