"""A server among clients that mean it no good, or speak HTTP in their own way."""

import asyncio
import json
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import httpx
import numpy as np
import pytest

from noisevote.model_store.store import ModelStore
from tests.support.fork_server import ForkedServer
from tests.support.graphs import SHAPE
from tests.support.process import ROOT, TIMEOUT_S, clean_environment, ended, server, start_line
from tests.support.serving import publish_tiny

PATH = "/v1/models/tiny/predict"
BODY = json.dumps({"inputs": [np.full(SHAPE, 0.5).tolist()], "votes": 3, "seed": 1}).encode()
HEAD = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n".encode()
LENGTH = b"content-length: %d\r\n" % len(BODY)
GOOD = HEAD + LENGTH + b"\r\n" + BODY


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """A store with `tiny`."""
    store = ModelStore(tmp_path_factory.mktemp("store") / "models")
    publish_tiny(store)
    return store


@contextmanager
def running(store: ModelStore, *flags: str) -> Iterator[tuple[ForkedServer, tuple[str, int]]]:
    """A server and where it listens."""
    with server("--port", "0", "--model-store", str(store.root), *flags) as process:
        url = httpx.URL(start_line(process)[1])
        yield process, (url.host, url.port or 0)


@contextmanager
def limited(limit: str, store: ModelStore) -> Iterator[subprocess.Popen[str]]:
    """A server that a shell has limited."""
    serve = f"exec {sys.executable} -m noisevote serve --port 0 --model-store {store.root}"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        ["sh", "-c", f"{limit} && {serve}"], cwd=ROOT, env=clean_environment(), text=True, stdout=pipe, stderr=pipe
    ) as process:
        try:
            yield process
        finally:
            process.kill()


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


@pytest.fixture(scope="module")
def hasty(store: ModelStore) -> Iterator[tuple[str, int]]:
    """A server with short limits."""
    flags = ("--header-seconds", "1.5", "--body-seconds", "1.5", "--max-header-bytes", "8192")
    with running(store, *flags) as (_, address):
        yield address


UPGRADE = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"


@pytest.mark.parametrize("parts", [1, 2, 3], ids=["whole", "body later", "body in two parts"])
@pytest.mark.parametrize("length", [LENGTH, b"transfer-encoding: chunked\r\n"], ids=["length", "chunked"])
def test_a_wish_for_http_2_is_ignored(hasty: tuple[str, int], length: bytes, parts: int) -> None:
    """Java's client sends one with every first request: the answer is HTTP/1.1, and the connection goes on."""
    body = BODY if length is LENGTH else b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    cuts = [0, len(body) // 2, len(body)] if parts == 3 else [0, len(body)]
    head = HEAD + UPGRADE + length + b"\r\n"
    with connected(hasty, head if parts > 1 else head + body) as connection:
        if parts > 1:
            for first, last in pairwise(cuts):
                time.sleep(0.05)
                connection.sendall(body[first:last])
        status, headers, content = answer(connection, until_closed=False)
        assert (status, headers["content-type"]) == (200, "application/json")
        connection.sendall(GOOD)
        assert (
            json.loads(answer(connection, until_closed=False)[2])["predictions"] == json.loads(content)["predictions"]
        )


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        HEAD + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n{}",
    ],
    ids=lambda sent: repr(sent[:20]),
)
def test_what_is_no_http_is_told_so_in_json(hasty: tuple[str, int], sent: bytes) -> None:
    """400, and the connection is closed."""
    with connected(hasty, sent) as connection:
        assert error(connection) == (400, "invalid_http")


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"x: " + b"y" * 9000 + b"\r\n\r\n",
        HEAD + b"x: " + b"y" * 900_000,
        HEAD + b"x: y\r\n" * 2000,
        b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx: " + b"y" * 900_000,
    ],
    ids=["one header", "without end", "many headers", "path", "trailer"],
)
def test_a_header_over_the_limit_is_431(hasty: tuple[str, int], sent: bytes) -> None:
    """However it is made, and before it is complete."""
    with connected(hasty) as connection:
        try:
            connection.sendall(sent)
        except OSError:
            return  # refused already, and closed
        status, code = error(connection)
    assert (status, code) in {(431, "header_too_large"), (400, "invalid_json"), (422, "invalid_value")}
    assert status == 431 or b"chunked" in sent  # which may have been answered before its trailer came


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"", None), (b"GET / HT", 408), (HEAD + b"x: y", 408), (HEAD + b"content-length: 9\r\n\r\n{", 408)],
    ids=["nothing", "request line", "header", "body"],
)
def test_who_does_not_go_on_is_closed(hasty: tuple[str, int], sent: bytes, status: int | None) -> None:
    """With an answer where a request had begun."""
    with connected(hasty, sent) as connection:
        if status is None:
            assert connection.recv(1) == b""
        else:
            assert error(connection) == (status, "too_slow")


def test_an_early_answer_to_a_long_body_and_the_next_request_share_a_connection(hasty: tuple[str, int]) -> None:
    """What is refused unread is let go by, and counts for nothing."""
    refused = HEAD.replace(b"json", b"text") + b"content-length: 200000\r\n\r\n" + b" " * 200_000
    with connected(hasty) as connection:
        for _ in range(3):
            connection.sendall(refused)
            assert answer(connection, until_closed=False)[0] == 415
            connection.sendall(GOOD)
            assert answer(connection, until_closed=False)[0] == 200


HEALTH = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


def test_requests_that_follow_at_once_are_answered_in_order(hasty: tuple[str, int]) -> None:
    """As many as may wait, in pieces of any size; each answer is the one its request asked for."""
    sent = GOOD + HEALTH * 20 + GOOD + HEALTH * 20
    for size in (len(sent), 1023, 1025):
        with connected(hasty) as connection, connection.makefile("rb") as received:
            for start in range(0, len(sent), size):
                connection.sendall(sent[start : start + size])
            found = [next_answer(received) for _ in range(42)]
        assert [b"predictions" in body for body in found] == [number % 21 == 0 for number in range(42)]


def next_answer(received: BinaryIO) -> bytes:
    """The body of the next answer of a connection, which is good."""
    assert b" 200 " in received.readline()
    length = 0
    while (line := received.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return received.read(length)


def test_too_many_requests_that_follow_at_once_are_refused(store: ModelStore) -> None:
    """Before all of them are made sense of; the answer that was begun for the first one is given up without a trace."""
    with running(store) as (process, address):
        with connected(address, GOOD + HEALTH * 2000) as connection:
            assert error(connection) == (400, "invalid_http")
        with connected(address, GOOD + b"nonsense\r\n\r\n") as connection:
            assert error(connection) == (400, "invalid_http")
        with connected(address, GOOD) as connection:
            assert answer(connection, until_closed=False)[0] == 200
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=TIMEOUT_S)
    assert "ERROR" not in log, log


@pytest.mark.parametrize("size", [1, 100, 2**20], ids=["tiny", "short", "huge"])
def test_chunks_of_any_size_make_the_same_body(hasty: tuple[str, int], size: int) -> None:
    """What follows on the connection is the next request."""
    padded = BODY + b" " * 40_000
    parts = [padded[start : start + size] for start in range(0, len(padded), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    sent = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\nx: y\r\n\r\n" + GOOD
    with connected(hasty, sent) as connection, connection.makefile("rb") as received:
        first, second = next_answer(received), next_answer(received)
    assert json.loads(first)["predictions"] == json.loads(second)["predictions"]


def test_at_the_limit_the_longest_idle_goes_and_good_clients_stay(store: ModelStore) -> None:
    """Of twenty that do nothing, or half of something, ten may be open beside good ones; the log says why, once."""
    with ExitStack() as stack:
        process, address = stack.enter_context(running(store, "--max-connections", "10"))
        with httpx.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=TIMEOUT_S) as client:
            idle = []
            for number in range(20):
                idle.append(stack.enter_context(connected(address, (b"", HEAD, GOOD[:-1])[number % 3])))
                assert client.post(PATH, content=BODY, headers={"content-type": "application/json"}).status_code == 200
        for connection in idle[:10]:
            assert connection.recv(1) == b""
        process.send_signal(signal.SIGTERM)
        status, _, errors = ended(process)
    assert status == 0
    assert errors.count("at the limit") == 1


def test_few_open_files_shut_nobody_out(store: ModelStore) -> None:
    """As few as 128 with 300 idle connections: good clients are answered, and the log names the limit."""
    with limited("ulimit -n 128", store) as process, ExitStack() as stack:
        url = start_line(process)[1]
        address = (httpx.URL(url).host, httpx.URL(url).port or 0)
        for _ in range(300):
            stack.enter_context(connected(address))
        answers = [
            httpx.post(f"{url}{PATH}", content=BODY, headers={"content-type": "application/json"}, timeout=TIMEOUT_S)
            for _ in range(5)
        ]
        assert {each.status_code for each in answers} == {200}
        process.send_signal(signal.SIGTERM)
        status, _, errors = ended(process)
    assert status == 0
    assert "this process may open 128 files" in errors
    assert errors.count("at the limit") == 1


def test_bytes_of_unfinished_bodies_are_bounded(store: ModelStore) -> None:
    """Stalled bodies make room for one that comes; short ones are always read."""
    limits = ("--max-body-bytes", "1000000", "--max-unread-bytes", "1500000")
    stalled = HEAD + b"content-length: 1000000\r\n\r\n" + b" " * 700_000
    with ExitStack() as stack:
        _, address = stack.enter_context(running(store, *limits))
        three = [stack.enter_context(connected(address, stalled)) for _ in range(3)]
        (refused,), _, _ = select.select(three, [], [], TIMEOUT_S)
        assert error(refused) == (503, "too_many_bytes")
        with connected(address, GOOD) as good:
            assert answer(good, until_closed=False)[0] == 200
        time.sleep(1.5)  # silence is what it is about
        padded = BODY + b" " * 650_000
        with connected(address, HEAD + b"content-length: %d\r\n\r\n" % len(padded) + padded) as good:
            assert answer(good, until_closed=False)[0] == 200
        (given_up,), _, _ = select.select([each for each in three if each is not refused], [], [], TIMEOUT_S)
        assert error(given_up) == (408, "too_slow")


def test_sigterm_answers_a_stalled_body_at_once_and_ends(store: ModelStore) -> None:
    """503 in JSON, status 0, and nothing in the log."""
    with running(store) as (process, address), connected(address, GOOD[:-1]) as stalled:
        with connected(address, GOOD) as good:
            answer(good, until_closed=False)
        process.send_signal(signal.SIGTERM)
        assert error(stalled) == (503, "draining")
        assert ended(process) == (0, "", "")


async def test_at_the_end_every_input_has_votes(store: ModelStore) -> None:
    """Ten inputs of many votes each, in four requests that ask for all at once: votes so far, not 503."""
    content = {"inputs": [np.full(SHAPE, 0.5).tolist()] * 200, "votes": 10_000 // 4, "sigma": 0.5}
    with running(store, "--grace-seconds", "3", "--threads", "1") as (process, (host, port)):
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=TIMEOUT_S) as client:
            asking = [asyncio.create_task(client.post(PATH, json=content)) for _ in range(2)]
            await asyncio.sleep(1)
            process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*asking)
        assert (await asyncio.to_thread(ended, process))[0] == 0
    for each in answers:
        assert each.status_code == 200, each.text
        used = [prediction["votes_used"] for prediction in each.json()["predictions"]]
        assert min(used) > 0
        assert max(used) <= 2500


LOADS_FOR_EVER = """
import threading
from noisevote.service.models.loading import Loader
def load(*_, **__):
    print("loading", flush=True)
    threading.Event().wait()
Loader.load = load
from noisevote.service.__main__ import main
raise SystemExit(main())
"""


@pytest.mark.parametrize("grace", ["0", "1", "30"])
def test_sigterm_ends_a_server_that_still_loads(store: ModelStore, grace: str, tmp_path: Path) -> None:
    """Within the grace time, whatever a loading thread does."""
    script = tmp_path / "serve.py"
    script.write_text(LOADS_FOR_EVER)
    flags = ["--port", "0", "--model-store", str(store.root), "--grace-seconds", grace]
    with subprocess.Popen(
        [sys.executable, str(script), *flags],
        cwd=ROOT, env=clean_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "loading\n"
            process.send_signal(signal.SIGTERM)
            assert ended(process)[0] == 0
        finally:
            process.kill()


def test_under_a_memory_limit_huge_bodies_are_refused_and_nothing_hangs(store: ModelStore) -> None:
    """Keys, lists and points at once, as many as fit: each has an answer, `/healthz` too, and SIGTERM ends it all."""
    bodies = [
        b"{" + b",".join(b'"k%d":1' % number for number in range(200_000)) + b"}",
        b'{"inputs":[' + b"[]," * 1_900_000 + b"[]]}",
        b'{"inputs":[[' + b"[0.5,0.5]," * 900_000 + b"[0.5,0.5]]]}",
    ]
    with limited("ulimit -v 1400000", store) as process:
        url = httpx.URL(start_line(process)[1])
        with ExitStack() as stack:
            address = (url.host, url.port or 0)
            asking = [
                stack.enter_context(connected(address, HEAD + b"content-length: %d\r\n\r\n" % len(body) + body))
                for body in bodies
            ]
            statuses = [answer(each, until_closed=False)[0] for each in asking]
        assert statuses[:2] == [413, 422]
        assert statuses[2] in {422, 503}
        assert httpx.get(f"{url}/healthz", timeout=TIMEOUT_S).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0
