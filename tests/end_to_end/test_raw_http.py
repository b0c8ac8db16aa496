"""A server among clients that speak HTTP in their own way, or none."""

import json
import signal
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from noisevote.model_store.store import ModelStore
from tests.support.process import TIMEOUT_S
from tests.support.raw_http import BODY, GOOD, HEAD, LENGTH, answer, connected, error, next_answer, running
from tests.support.serving import publish_tiny


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """A store with `tiny`."""
    store = ModelStore(tmp_path_factory.mktemp("store") / "models")
    publish_tiny(store)
    return store


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
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
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


def test_too_many_requests_that_follow_at_once_are_refused(store: ModelStore) -> None:
    """Before all of them are made sense of; the answer that was begun for the first one is given up without a trace."""
    with running(store) as (process, address):
        with connected(address, GOOD + HEALTH * 2000) as connection:
            assert error(connection) == (400, "invalid_http")
        with connected(address, GOOD) as connection:
            assert answer(connection, until_closed=False)[0] == 200
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=TIMEOUT_S)
    assert "ERROR" not in log, log


@pytest.mark.parametrize(
    ("last", "status", "code"),
    [
        (b"nonsense\r\n\r\n", b"400", b"invalid_http"),
        (b"CONNECT localhost:1 HTTP/1.1\r\n\r\n", b"400", b"invalid_http"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 50_000, b"431", b"header_too_large"),
    ],
    ids=["nonsense", "connect", "header without end"],
)
def test_what_is_not_taken_is_refused_after_the_answers_before_it(
    hasty: tuple[str, int], last: bytes, status: bytes, code: bytes
) -> None:
    """Both requests before it have theirs, in order; then comes the refusal, and the end."""
    with connected(hasty, GOOD + HEALTH + last) as connection, connection.makefile("rb") as received:
        assert [b"predictions" in next_answer(received) for _ in range(2)] == [True, False]
        refusal = received.read()
    assert refusal.startswith(b"HTTP/1.1 " + status)
    assert b'"' + code + b'"' in refusal


def test_a_trailer_changes_nothing(hasty: tuple[str, int]) -> None:
    """Neither the host that a request is for nor what its body is."""
    trailers = b"host: elsewhere.example\r\ncontent-type: text/plain\r\n"
    chunked = b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n%s\r\n" % (len(BODY), BODY, trailers)
    with connected(hasty, HEAD + chunked) as connection:
        assert answer(connection, until_closed=False)[0] == 200


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
