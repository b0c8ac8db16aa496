"""HTTP by hand: a request's bytes, a connection that sends them or not all of them, and answers as they come."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import httpx
import numpy as np

from noisevote.model_store.store import ModelStore
from tests.support.fork_server import ForkedServer
from tests.support.graphs import SHAPE
from tests.support.process import TIMEOUT_S, server, start_line

PATH = "/v1/models/tiny/predict"
BODY = json.dumps({"inputs": [np.full(SHAPE, 0.5).tolist()], "votes": 3, "seed": 1}).encode()
HEAD = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n".encode()
LENGTH = b"content-length: %d\r\n" % len(BODY)
GOOD = HEAD + LENGTH + b"\r\n" + BODY


@contextmanager
def running(store: ModelStore, *flags: str) -> Iterator[tuple[ForkedServer, tuple[str, int]]]:
    """A server and where it listens."""
    with server("--port", "0", "--model-store", str(store.root), *flags) as process:
        url = httpx.URL(start_line(process)[1])
        yield process, (url.host, url.port or 0)


@contextmanager
def connected(address: tuple[str, int], sent: bytes = b"") -> Iterator[socket.socket]:
    """A connection that has sent something."""
    with socket.create_connection(address, timeout=TIMEOUT_S) as connection:
        connection.sendall(sent)
        yield connection


def answer(connection: socket.socket, until_closed: bool = True) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        assert part, f"closed after {received!r}"
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    if until_closed:
        assert connection.recv(1) == b""
    return int(lines[0].split()[1]), headers, body


def error(connection: socket.socket) -> tuple[int, str]:
    """Status and code of an answer after which the connection is closed; JSON, as all errors are."""
    status, headers, body = answer(connection)
    assert headers["content-type"] == "application/json"
    assert headers["connection"] == "close"
    return status, json.loads(body)["error"]["code"]


def next_answer(received: BinaryIO) -> bytes:
    """The body of the next answer of a connection, which is good."""
    assert b" 200 " in received.readline()
    length = 0
    while (line := received.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return received.read(length)
