"""How `make bench-peers` asks, checks, keeps and compares; the servers themselves are not needed."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.graphs import feeds, running, session_of, with_noise_fed, with_random_normal_like
from benchmarks.peers.asking import Answer, ConnectionEndedError, Group, ask
from benchmarks.peers.windows import Way, WrongAnswerError, measured
from noisevote.model_store.store import ModelStore
from tests.support.contenders import Idle, contender

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


class Answering:
    """A server on a thread of its own that says the same to everybody, in pieces; `stop` closes its connections."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.heard: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while received := connection.recv(1 << 16):
                self.heard.append(received.partition(b"\r\n\r\n")[2])
                if not self.said:
                    return
                for piece in (self.said[:9], self.said[9:60], self.said[60:]):
                    connection.sendall(piece)

    def close(self) -> None:
        """Accept nobody any more."""
        self._listening.close()


@pytest.fixture
def answering() -> Iterator[Answering]:
    """A server that answers with seven."""
    server = Answering(HEAD % (len(SEVENS), SEVENS))
    yield server
    server.close()


SEVENS = json.dumps([0] * 7 + [20] + [0] * 2).encode()


def test_clients_take_turns_with_their_bodies_and_read_whole_answers(answering: Answering) -> None:
    """Each client waits for its answer, clients that begin together ask for different things, none is lost."""
    answers = ask(answering.url, "/", [Group(2, [b"a", b"b"]), Group(1, [b"c"])], 0.05)
    assert {each.content for each in answers} == {SEVENS}
    assert {each.status for each in answers} == {200}
    assert {each.group: {other.body for other in answers if other.group == each.group} for each in answers} == {
        0: {b"a", b"b"},
        1: {b"c"},
    }
    assert sorted(answering.heard) == sorted(each.body for each in answers)


def test_answers_in_chunks_are_put_together() -> None:
    """Some servers send them so; what looks like the last chunk may be a part of the content."""
    server = Answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\nA\r\n0\r\n\r\n01234\r\n0\r\n\r\n"
    )
    (answer, *_) = ask(server.url, "/", [Group(1, [b"a"])], 0)
    assert answer.content == b"abcd0\r\n\r\n01234"
    server.close()


@pytest.mark.parametrize(
    ("said", "problem"),
    [(b"", "was closed"), (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", "without its length")],
)
def test_a_connection_without_an_answer_is_an_error(said: bytes, problem: str) -> None:
    """Nothing is counted as an answer that is none."""
    server = Answering(said)
    with pytest.raises(ConnectionEndedError, match=problem):
        ask(server.url, "/", [Group(1, [b"a"])], 0)
    server.close()


@pytest.mark.parametrize(
    ("status", "histogram", "problem"),
    [
        (500, [], "answers 500"),
        (200, [2, *[0] * 8, 1], "are not 20 votes"),
        (200, [20], "are not 20 votes"),
        (200, [21, -1, *[0] * 8], "are not 20 votes"),
        (200, [0, 20, *[0] * 8], "is not what the same seed gave alone"),
    ],
)
def test_a_wrong_answer_is_an_error(status: int, histogram: list[int], problem: str) -> None:
    """No figure is kept of a server that does not do what it is asked for."""
    answer = Answer(0, b"body", 0, 1, status, json.dumps(histogram).encode())
    with pytest.raises(WrongAnswerError, match=problem):
        contender(known=[20, *[0] * 9]).check(answer, 20)


def test_whoever_stops_early_must_decide_as_all_votes_do() -> None:
    """Fewer votes are right if their mode is that of all, and only where stopping was asked for."""
    asked = contender(known=[3, 17, *[0] * 8], early=True)
    fewer = Answer(0, b"body", 0, 1, 200, json.dumps([0, 11, *[0] * 8]).encode())
    assert sum(asked.check(fewer, 20)) == 11
    other = Answer(0, b"body", 0, 1, 200, json.dumps([11, *[0] * 9]).encode())
    with pytest.raises(WrongAnswerError):
        asked.check(other, 20)
    with pytest.raises(WrongAnswerError):
        contender().check(fewer, 20)


@pytest.mark.parametrize("right", [10, 20])
def test_a_peer_without_the_noise_that_was_asked_for_is_found_out(right: int) -> None:
    """Nine votes of ten tell the digit at this sigma: many more or fewer come from another noise."""
    said = json.dumps([20 - right] + [0] * 6 + [right, 0, 0]).encode()
    answers = [Answer(0, b"body", 0, 1, 200, said)] * 60
    with pytest.raises(WrongAnswerError, match="tell the digit"):
        measured(contender(), Way(((1, 20),), 1), "", Idle(), lambda *_: answers)


@pytest.mark.parametrize("variant", ["mul-0.9", "mul-0.9-int8", "mul-0.9-int8-op2"])
def test_a_published_file_runs_with_the_noise_of_others(variant: str) -> None:
    """Almost without noise it says what our own engine says; with noise two runs differ; it reads inputs and rows."""
    store = ModelStore(Path("model_store/models"))
    manifest = store.manifest("mnist-cnn")
    found = manifest.variant(variant)
    assert found is not None
    file = store.read(manifest, found)
    ours, silent, noisy = session_of(file, 1), *(session_of(with_random_normal_like(file, s), 1) for s in (1e-9, 0.8))
    batch = feeds(ours, 4, 2)
    batch["sigma"] = np.zeros_like(batch["sigma"])
    assert {value.name for value in noisy.get_inputs()} == {"input", "row"}
    wanted, same = (np.asarray(running(session, batch)())[0] for session in (ours, silent))
    assert np.allclose(wanted, same, atol=1e-3 * np.abs(wanted).max())
    first, second = (np.asarray(running(noisy, batch)()) for _ in range(2))
    assert not np.array_equal(first, second)


def test_a_published_file_takes_noise_from_outside() -> None:
    """Its inputs are one noise a site, of the site's shape."""
    store = ModelStore(Path("model_store/models"))
    manifest = store.manifest("mnist-cnn")
    file = store.read(manifest, manifest.variants[0])
    changed, shapes = with_noise_fed(file)
    assert {value.name for value in onnx.load_from_string(changed).graph.input} >= set(shapes)
    assert len(shapes) == manifest.variants[0].layers
    session = session_of(changed, 1)
    zeros = {name: np.zeros((2, *shape), np.float32) for name, shape in shapes.items()}
    fixed = {"input": np.zeros((1, 1, 28, 28), np.float32), "row": np.zeros(2, np.int64)}
    same, other = (session.run(["logits"], fixed | zeros)[0] for _ in range(2))
    assert np.array_equal(same, other)
