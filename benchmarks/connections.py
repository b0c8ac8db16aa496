"""HTTP for benchmarks whose clients run on the machine of the server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Connections:
    """Keep-alive connections that speak as little HTTP as this needs, so that the measuring costs little.

    `address` is the one that they come from, where a server tells its clients apart by it; `header` announces what
    bodies are.
    """

    def __init__(
        self, url: str, path: str, address: str | None = None, header: str = "content-type: application/json"
    ) -> None:
        self._header = header
        self._local = None if address is None else (address, 0)
        self.path = path
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Status and content of the answer."""
        async with self._connection() as (reader, writer):
            head = f"POST {self.path} HTTP/1.1\r\nhost: {self.host}\r\n{self._header}\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            length = next(int(line.partition(":")[2]) for line in lines if line.lower().startswith("content-length:"))
            return int(lines[0].split()[1]), await reader.readexactly(length)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        self._idle = [(reader, writer) for reader, writer in self._idle if not reader.at_eof()]
        connection = (
            self._idle.pop()
            if self._idle
            else await asyncio.open_connection(self.host, self.port, local_addr=self._local)
        )
        yield connection
        self._idle.append(connection)

    def close(self) -> None:
        """Close what is idle."""
        for _, writer in self._idle:
            writer.close()
