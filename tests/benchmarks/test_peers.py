"""How `make bench-peers` asks, checks, keeps and compares; the servers themselves are not needed."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest

from benchmarks.graphs import feeds, running, session_of, with_noise_fed, with_random_normal_like
from benchmarks.peers.asking import Answer, ConnectionEndedError, Group, ask
from benchmarks.peers.comparisons import BYTES, EARLY, FLOATS, Found, lines_of
from benchmarks.peers.contenders import BYTE_PEERS, FLOAT_PEERS, OURS, PEERS, REQUIREMENTS, SERVERS, Unavailable
from benchmarks.peers.contenders import launched as launch
from benchmarks.peers.programs import Program, marked, started
from benchmarks.peers.record import OtherMachineError, Record, Window
from benchmarks.peers.report import KEPT, report
from benchmarks.peers.windows import BESIDE_100, HUNDRED, ONE, TWENTY, WAYS, Contender, Way, WrongAnswerError, measured
from noisevote.model_store.store import ModelStore

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
LOOP, TILED = FLOAT_PEERS[1].name, FLOAT_PEERS[0].name


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


def contender(*, known: list[int] | None = None, early: bool = False) -> Contender:
    """One that is asked for 20 votes."""
    learnt = {} if known is None else {b"body": known}
    return Contender("A", "float32", "/", {20: [b"body"], 1: [b"body"]}, list, (TWENTY,), early, learnt)


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


class Idle(Program):
    """A program that does nothing."""

    def __init__(self) -> None:
        """Start nothing."""

    def processor_seconds(self) -> float:
        """None."""
        return 0.0


def test_requests_under_way_at_an_end_of_the_window_count_by_their_share_of_time() -> None:
    """Requests a second do not depend on whether a long one ends just before or just after the window does."""
    said = json.dumps([2] + [0] * 6 + [18, 0, 0]).encode()

    def answered(_: str, __: str, groups: list[Group], seconds: float) -> list[Answer]:
        assert (len(groups), seconds) == (2, 10.5)
        began = time.perf_counter() + 0.5
        one = json.dumps([0] * 7 + [1, 0, 0]).encode()
        small = [Answer(0, b"", began + at, began + at + 0.004, 200, one) for at in (-0.4, 1, 2)]
        return [
            *small,
            Answer(1, b"", began - 5, began + 5, 200, said),
            Answer(1, b"", began + 5, began + 25, 200, said),
        ]

    figures = measured(contender(), Way(((1, 1), (1, 20)), 10), "", Idle(), answered)
    assert figures["large_per_second"] == pytest.approx((0.5 + 0.25) / 10, abs=1e-3)
    assert figures["small_ms"] == pytest.approx([4, 4], abs=0.01)  # not what was asked before the window
    assert figures["answers"] == 5


def window(round_: int, contender: str, way: str, rate: float, **more: Any) -> Window:
    """What is kept of one."""
    figures = dict.fromkeys(KEPT, 0.5) | {"requests_per_second": rate} | more
    return {"round": round_, "run": 1, "contender": contender, "way": way, **figures}


WINDOWS = [
    *(window(0, name, TWENTY, rate) for name, rate in ((FLOATS, 300), (BYTES, 600), (TILED, 100), (LOOP, 80))),
    *(window(1, name, TWENTY, rate) for name, rate in ((FLOATS, 150), (BYTES, 300), (TILED, 40), (LOOP, 50))),
    window(2, FLOATS, TWENTY, 9999),
    window(0, EARLY, TWENTY, 500, answers=100, votes=1200),
    *(window(0, name, ONE, rate) for name, rate in ((FLOATS, 1500), (TILED, 1000), (LOOP, 900))),
    window(0, FLOATS, HUNDRED, 40),
    window(0, FLOATS, BESIDE_100, 100, large_per_second=38, small_ms=[5.0] * 100),
    window(0, LOOP, BESIDE_100, 50, large_per_second=10, small_ms=[10.0] * 100),
    window(0, TILED, BESIDE_100, 5, large_per_second=12, small_ms=[200.0] * 10),
]


def test_ratios_are_taken_within_a_round_against_its_best_peer() -> None:
    """A machine that is half as fast for a round changes none of them; rounds without a peer say nothing."""
    lines = {(each["asked"], each["line"]): each for each in lines_of(Found(WINDOWS))}
    twenty = lines["20 votes, 8 clients", "float32 ÷ best float32 peer"]
    assert (twenty["median"], twenty["wanted"]) == (3.0, 2.7)
    assert lines["20 votes, 8 clients", "int8 ÷ best float32 peer"]["median"] == 6.0
    assert lines["one vote, 8 clients", "float32 ÷ best float32 peer"]["median"] == 1.5
    assert lines["one vote beside 4 × 100", "99th percentile, least of all peers ÷ float32"]["median"] == 2.0
    large = lines["one vote beside 4 × 100", "large requests a second, float32 ÷ best peer of any kind"]
    assert large["median"] == pytest.approx(38 / 12)
    assert lines["one vote beside 4 × 100", "votes a second, float32 ÷ those of 4 × 100 alone"]["median"] == 0.975
    assert not any("int8 peer" in line for _, line in lines)


def test_the_report_has_everybody_in_table_record_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each contender has its row; what is left out is named with its reason; the picture is there."""
    store = Path("model_store/models")
    model = f"mnist-cnn {ModelStore(store).manifest('mnist-cnn').version}"
    record = Record(tmp_path / "measured.json", model)
    for each in WINDOWS:
        figures = {name: value for name, value in each.items() if name not in ("round", "run", "contender", "way")}
        record.add(each["round"], each["contender"], each["way"], figures)
    record.miss(PEERS[3].name, "it is not there")
    out = tmp_path / "out" / "peers"
    report(argparse_like(folder=tmp_path, model_store=store, lanes=2, out=out))
    page = out.with_suffix(".md").read_text()
    assert "| 20 votes, 8 clients | float32 ÷ best float32 peer | 3.00 (3.00 to 3.00) | ≥ 2.7 | yes |" in page
    assert f"Left out: {PEERS[3].name}: it is not there." in page
    for name in (FLOATS, BYTES, TILED, LOOP):
        assert f"| {name} |" in page
    assert "100 answers of 20 votes at most took 12.0 votes on average" in page
    assert "Proposal: where no policy hides the votes" in page
    assert "| noisevote, float32 | 4 × 100 | 5.0 ms | 5.0 ms | 100 | 38.0 (38.0 to 38.0) |" in page
    figures = json.loads(out.with_suffix(".json").read_text())["figures"]
    assert figures["servers"][LOOP]["one vote beside 4 × 100"]["p99_ms"] == 10.0
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def argparse_like(**options: Any) -> Any:
    """Options of the command."""
    return type("Options", (), options)


def test_windows_are_kept_at_once_and_known_again(tmp_path: Path) -> None:
    """An interrupted run finds what it has measured, and only that."""
    path = tmp_path / "measured.json"
    Record(path, "mnist-cnn 3", now=lambda: 7.0).add(0, "A", ONE, {"requests_per_second": 1.0})
    again = Record(path, "mnist-cnn 3")
    assert again.has(0, "A", ONE)
    assert not again.has(1, "A", ONE)
    assert not again.has(0, "A", TWENTY)
    assert again.windows == [{"round": 0, "run": 7, "contender": "A", "way": ONE, "requests_per_second": 1.0}]
    again.drop(["A"])
    assert Record(path, "mnist-cnn 3").windows == []


def test_what_another_model_measured_is_not_added_to(tmp_path: Path) -> None:
    """Windows of other versions or machines cannot be compared."""
    path = tmp_path / "measured.json"
    Record(path, "mnist-cnn 3").miss("A", "gone")
    assert Record(path, "mnist-cnn 3").missing == {"A": "gone"}
    with pytest.raises(OtherMachineError, match="--fresh"):
        Record(path, "mnist-cnn 4")


def wait_for(condition: Callable[[], bool]) -> None:
    """Signals are obeyed soon, not at once."""
    while not condition():
        time.sleep(0.01)


FAMILY = """
import os, subprocess, sys, time
child = [sys.executable, "-c", "import time; time.sleep(60)"]
subprocess.Popen(child, start_new_session=True)
if (between := os.fork()) == 0:
    os.setsid()
    subprocess.Popen(child)
    os._exit(0)
os.waitpid(between, 0)
open("ready", "w").close()
signal = __import__("signal"); signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
time.sleep(60)
"""


def test_a_program_ends_with_all_that_it_started(tmp_path: Path) -> None:
    """Also what left its session and lost its parent; halted programs end too."""
    with started([sys.executable, "-c", FAMILY], os.environ, tmp_path) as program:
        while not (tmp_path / "ready").exists() or len(program.processes()) < 3:
            assert program.runs
        family = set(program.processes())
        program.halt()
        wait_for(lambda: {each.status() for each in family} == {psutil.STATUS_STOPPED})
        program.go_on()
        assert program.processor_seconds() > 0
        program.halt()
    assert not program.runs
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_what_is_left_of_a_killed_run_is_killed(tmp_path: Path) -> None:
    """The mark tells whose it is."""
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    left = started(sleeping, os.environ, tmp_path)
    program = left.__enter__()
    (old,) = program.processes()
    wait_for(lambda: marked(old, str(tmp_path)))
    assert not marked(old, str(tmp_path / "other"))
    with started(sleeping, os.environ, tmp_path):
        wait_for(lambda: old.status() == psutil.STATUS_ZOMBIE)
    left.__exit__(None, None, None)


def test_what_is_not_installed_is_left_out_with_a_reason(tmp_path: Path) -> None:
    """Nobody needs all of them; each has requirements and a program."""
    assert {peer.environment for peer in PEERS} == {file.stem for file in REQUIREMENTS.glob("*.txt")}
    assert len(list(SERVERS.glob("*_digits.py"))) == len({peer.environment for peer in PEERS})
    for peer in PEERS:
        with pytest.raises(Unavailable, match="not installed"), launch(peer, tmp_path, {}):
            pass


def test_peers_are_asked_in_all_ways_and_ours_also_for_early_stops() -> None:
    """Bytes of peers are left out of one way, which is long; early stops are asked for where decisions are compared."""
    assert {Contender.of(peer).ways for peer in BYTE_PEERS} == {(ONE, TWENTY, BESIDE_100)}
    for peer in FLOAT_PEERS:
        assert set(Contender.of(peer).ways) == set(WAYS) - {HUNDRED}
    assert Contender.ours("int8").ways == tuple(WAYS)
    early = Contender.ours("int8", early=True)
    assert (early.name, early.ways) == (f"{OURS}, int8, exact", (TWENTY,))
    assert all(b'"exact"' in body and b'"mul-0.9-int8"' in body for body in early.bodies[20])


@pytest.mark.parametrize("variant", ["mul-0.9", "mul-0.9-int8"])
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
