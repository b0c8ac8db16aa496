"""Clients on the machine of the server that they ask, as lean as can be: what they take, it does not get.

One thread, one poll for all connections, no HTTP but what it needs. Answers are kept as they come, and read when the
clients are done.
"""

import re
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final
from urllib.parse import urlsplit

SILENCE_S: Final = 60
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
LAST_CHUNK: Final = b"0\r\n\r\n"
END_OF_HEAD: Final = b"\r\n\r\n"


class ConnectionEndedError(Exception):
    """A server closed a connection, said nothing for long, or speaks HTTP that these clients do not."""


@dataclass(frozen=True)
class Group:
    """Clients that ask for the same: so many connections, and the bodies that each sends in turn."""

    clients: int
    bodies: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: to which body, by seconds of the performance counter, and what was said."""

    group: int
    body: bytes
    sent: float
    came: float
    status: int
    content: bytes


class _Connection:
    """A client."""

    def __init__(self, group: int, address: tuple[str, int], requests: Iterator[tuple[bytes, bytes]]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._group = group
        self._requests = requests
        self._received = b""

    def ask(self) -> None:
        """Send the next body."""
        self._body, request = next(self._requests)
        self._sent = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> Answer | None:
        """The answer, if all of it is there."""
        received = self.socket.recv(1 << 16)
        if not received:
            raise ConnectionEndedError(f"the connection was closed after {self._received[:200]!r}")
        self._received += received
        head, end, content = self._received.partition(END_OF_HEAD)
        if not end:
            return None
        length = LENGTH.search(head + b"\r\n")
        if length is None:
            if not CHUNKED.search(head + b"\r\n"):
                raise ConnectionEndedError(f"an answer without its length: {head!r}")
            if not content.endswith(LAST_CHUNK):
                return None
            content = _joined(content)
        elif len(content) < int(length[1]):
            return None
        self._received = b""
        status = int(head[9:12])
        return Answer(self._group, self._body, self._sent, time.perf_counter(), status, content)


def ask(url: str, path: str, groups: Sequence[Group], seconds: float) -> list[Answer]:
    """Let all clients ask again and again for so long; returns all answers, also those that came later.

    Raises:
        ConnectionEndedError: a client got none.
        OSError: it could not connect.
    """
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    connections: dict[int, _Connection] = {}
    try:
        for number, group in enumerate(groups):
            for client in range(group.clients):
                requests = [(body, _request(address[0], path, body)) for body in _turned(group.bodies, client)]
                made = _Connection(number, address, cycle(requests))
                connections[made.socket.fileno()] = made
        return _conversation(connections, time.perf_counter() + seconds)
    finally:
        for each in connections.values():
            each.socket.close()


def _conversation(connections: dict[int, _Connection], end: float) -> list[Answer]:
    answers: list[Answer] = []
    with select.epoll() as poll:
        for number, each in connections.items():
            poll.register(number, select.EPOLLIN)
            each.ask()
        waiting = len(connections)
        while waiting:
            ready = poll.poll(SILENCE_S)
            if not ready:
                raise ConnectionEndedError(f"{waiting} clients had no answer for {SILENCE_S} s")
            for number, _ in ready:
                connection = connections[number]
                answer = connection.receive()
                if answer is None:
                    continue
                answers.append(answer)
                if answer.came < end:
                    connection.ask()
                else:
                    waiting -= 1
    return answers


def _turned(bodies: Sequence[bytes], by: int) -> Sequence[bytes]:
    """So that clients that begin together do not ask for the same."""
    by %= len(bodies)
    return [*bodies[by:], *bodies[:by]]


def _joined(chunks: bytes) -> bytes:
    """The content that comes in chunks, each after its length."""
    content, left = b"", chunks
    while left != LAST_CHUNK:
        length, _, left = left.partition(b"\r\n")
        size = int(length, 16)
        content, left = content + left[:size], left[size + 2 :]
    return content


def _request(host: str, path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body
