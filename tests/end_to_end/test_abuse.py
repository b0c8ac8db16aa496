"""A server among clients that mean it no good."""

import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from noisevote.model_store.store import ModelStore
from tests.support.process import ROOT, TIMEOUT_S, clean_environment, ended, start_line
from tests.support.raw_http import BODY, GOOD, HEAD, PATH, answer, connected, error, running
from tests.support.serving import publish_tiny


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """A store with `tiny`."""
    store = ModelStore(tmp_path_factory.mktemp("store") / "models")
    publish_tiny(store)
    return store


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
