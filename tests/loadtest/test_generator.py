"""The process that makes the load, against servers that answer as the test wants."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from noisevote.loadtest.errors import GeneratorEndedError
from noisevote.loadtest.generator_process import Generator
from noisevote.loadtest.phase import ClosedLoop, Load, OpenLoop, Order, Phase
from noisevote.loadtest.sample import Turn

pytestmark = pytest.mark.slow

HELD = 5
PATIENCE_S = 60


class Holding(ThreadingHTTPServer):
    """Answers nobody until so many requests are there; then everybody at once. Refuses requests of 3 votes."""

    def __init__(self, held: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.released = threading.Event()
        self.left = held
        self.lock = threading.Lock()

    def hold(self) -> None:
        """Wait for the others."""
        with self.lock:
            self.left -= 1
            if self.left <= 0:
                self.released.set()
        assert self.released.wait(PATIENCE_S)


class Handler(BaseHTTPRequestHandler):
    """One vote fewer than was asked for."""

    protocol_version = "HTTP/1.1"
    server: Holding

    def do_POST(self) -> None:
        """Answer when the server wants to."""
        votes = json.loads(self.rfile.read(int(self.headers["content-length"])))["votes"]
        self.server.hold()
        content = json.dumps({"predictions": [{"votes_used": votes - 1}]}).encode()
        self.send_response(429 if votes == 3 else 200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def holding(held: int) -> Iterator[str]:
    """The address of such a server."""
    with Holding(held) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def order(load: Load, *votes: int, seconds: float = 1.0) -> Order:
    """So many votes, wherever."""
    phase = Phase(part="votes", votes=votes, sigma=0.5, rule="exact", load=load, seconds=seconds)
    return Order(phase=phase, path="/predict", bodies={number: json.dumps({"votes": number}) for number in votes})


def by_due(turn: Turn) -> list[float]:
    """When requests were due, in order."""
    return sorted(sample.due for sample in turn.samples)


def test_an_open_loop_waits_for_no_answer() -> None:
    """All requests that are due are sent though none of the first is answered before the fifth is there.

    Their latencies count from when they were due, and the same requests are due in every run.
    """
    with holding(HELD) as address, Generator(address) as generator:
        turns = [generator.run(order(OpenLoop(rate=30.0), 2, 5)) for _ in range(2)]
    first = sorted(turns[0].samples, key=lambda sample: sample.due)
    assert len(first) > HELD
    assert {sample.outcome for sample in first} == {"200"}
    assert {(sample.votes, sample.votes_used) for sample in first} == {(2, 1), (5, 4)}
    assert all(sample.due <= sample.started <= sample.finished for sample in first)
    assert all(sample.finished >= first[HELD - 1].started for sample in first)
    assert by_due(turns[0]) == by_due(turns[1])


def test_clients_of_a_closed_loop_wait_for_their_answers() -> None:
    """So many requests are under way as there are clients, never more, and the last ones are waited for."""
    with holding(2) as address, Generator(address) as generator:
        turn = generator.run(order(ClosedLoop(clients=2), 4, seconds=0.5))
    assert all(sample.due < 0.5 for sample in turn.samples)
    for sample in turn.samples:
        under_way = [other for other in turn.samples if other.started < sample.finished < other.finished]
        assert len(under_way) <= 1
    assert turn.processor_seconds > 0


def test_outcomes_are_statuses_or_names_of_errors() -> None:
    """What was refused counts no votes, and one turn's failures end none of the next."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with Generator(closed) as generator:
        for _ in range(2):
            turn = generator.run(order(ClosedLoop(clients=1), 4, seconds=0.05))
            assert {(sample.outcome, sample.votes_used) for sample in turn.samples} == {("ConnectionRefusedError", 0)}
    with holding(1) as address, Generator(address) as generator:
        turn = generator.run(order(ClosedLoop(clients=1), 3, seconds=0.05))
        assert {(sample.outcome, sample.votes_used) for sample in turn.samples} == {("429", 0)}


def test_a_generator_that_ends_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """With its exit status, instead of waiting forever; here it is given an order that it cannot read."""
    with Generator("http://127.0.0.1:1") as generator:
        unreadable = order(ClosedLoop(clients=1), 4).model_copy(update={"path": 7})
        with (
            pytest.warns(UserWarning, match="serialized value may not be as expected"),
            pytest.raises(GeneratorEndedError, match="ended with status 1"),
        ):
            generator.run(unreadable)
    assert "ValidationError" in capfd.readouterr().err
