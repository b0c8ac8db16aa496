"""What an answer's writes become."""

import asyncio
from typing import Any, cast

from noisevote.service.connections.joining import JoiningTransport


class Recorded:
    """A transport that remembers what reached it in one system call each."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.sent.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def joining() -> tuple[JoiningTransport, Recorded]:
    """On the running loop."""
    recorded = Recorded()
    return JoiningTransport(cast("Any", recorded), asyncio.get_running_loop()), recorded


async def test_a_header_leaves_with_the_beginning_of_its_body() -> None:
    """The first two writes are one; what follows leaves at once, and nothing leaves twice."""
    transport, recorded = joining()
    transport.write(b"header ")
    transport.write(b"body")
    assert recorded.sent == [b"header body"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert recorded.sent == [b"header body", b"more"]


async def test_a_header_alone_waits_for_one_turn() -> None:
    """A stream's client hears that its answer has begun before there is any of it."""
    transport, recorded = joining()
    transport.write(b"header")
    assert not recorded.sent
    await asyncio.sleep(0)
    assert recorded.sent == [b"header"]
    transport.write(b"body")
    assert recorded.sent == [b"header", b"body"]


async def test_nothing_is_lost_at_the_end() -> None:
    """Closing sends what is held first."""
    transport, recorded = joining()
    transport.write(b"header")
    transport.close()
    assert (recorded.sent, transport.is_closing()) == ([b"header"], True)
    await asyncio.sleep(0)
    assert recorded.sent == [b"header"]
