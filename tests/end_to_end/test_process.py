"""The server as a process: how it starts, answers and ends."""

import base64
import json
import signal
import socket
import time
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from noisevote.model_store.store import ModelStore
from tests.support.process import DIGIT, TIMEOUT_S, ended, fresh_server, refusal, server, start_line
from tests.support.serving import publish_tiny


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with a model of the digits' shape."""
    store = ModelStore(tmp_path / "models")
    publish_tiny(store, shape=(1, 28, 28))
    return store


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_server_starts_answers_and_ends_cleanly(store: ModelStore, end: signal.Signals) -> None:
    """One line at start, ready, an answer to a PNG digit, and exit status 0 without a word of complaint."""
    with fresh_server("--port", "0", "--model-store", str(store.root)) as process:
        line, address = start_line(process)
        assert "tiny 1: mul-0.0, mul-0.8" in line
        assert "kernel" in line
        assert httpx.get(f"{address}/readyz").json() == {"status": "ready"}
        image = base64.b64encode(DIGIT.read_bytes()).decode()
        answer = httpx.post(
            f"{address}/v1/models/tiny/predict", json={"inputs": [{"image": image}], "sigma": 0.5, "seed": 7}
        )
        assert answer.status_code == 200
        assert sum(answer.json()["predictions"][0]["histogram"]) == 20
        process.send_signal(end)
        assert ended(process) == (0, "", "")


def test_the_environment_moves_the_port(store: ModelStore) -> None:
    """NOISEVOTE_PORT, with everything else at its default."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with fresh_server(NOISEVOTE_PORT=str(port), NOISEVOTE_MODEL_STORE=str(store.root)) as process:
        assert start_line(process)[1] == f"http://127.0.0.1:{port}"


def test_a_corrupted_file_is_named_at_start(store: ModelStore) -> None:
    """In the start line and with the reason on standard error; the other variant serves."""
    (store.root / "tiny/1/mul-0.8.onnx").write_bytes(b"")
    with server("--port", "0", "--model-store", str(store.root)) as process:
        line, _ = start_line(process)
        assert "tiny 1: mul-0.0 |" in line
        assert "refused: tiny 1 mul-0.8" in line
        process.send_signal(signal.SIGINT)
        status, _, errors = ended(process)
    assert status == 0
    assert "sha256" in errors


def process_that_ends(*flags: str, **variables: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a server that ends by itself."""
    with fresh_server(*flags, **variables) as process:
        return ended(process)


def test_what_cannot_start_says_why(store: ModelStore, tmp_path: Path) -> None:
    """Exit status 2 for settings, 1 for a taken port, an impossible host and a store without a model; one line each."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for start, flags, variables, status, message in (
            (process_that_ends, ["--port", "none"], {}, 2, "--port: 'none'"),
            (refusal, [], {"NOISEVOTE_PROT": "1"}, 2, "unknown setting NOISEVOTE_PROT"),
            (
                refusal,
                ["--port", port, "--model-store", str(store.root)],
                {},
                1,
                f"port {port}: Address already in use",
            ),
            (process_that_ends, ["--port", "0", "--model-store", str(empty)], {}, 1, f"no model in {empty}"),
            (
                refusal,
                [],
                {"NOISEVOTE_HOST": "a..b", "NOISEVOTE_MODEL_STORE": str(store.root)},
                1,
                "cannot listen on a..b port 8000",
            ),
        ):
            found, output, errors = start(*flags, **variables)
            assert (found, output) == (status, "")
            assert message in errors
            assert errors.count("\n") == 1


def test_of_two_servers_that_start_at_once_one_serves(store: ModelStore) -> None:
    """The other says that the address is in use and ends with 1, whatever it has loaded until then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    flags = ("--port", port, "--model-store", str(store.root))
    with server(*flags) as one, server(*flags) as other:
        patience = time.monotonic() + TIMEOUT_S
        while one.poll() is None and other.poll() is None:
            assert time.monotonic() < patience
            time.sleep(0.01)
        late, serving = (one, other) if one.poll() is not None else (other, one)
        assert ended(late) == (1, "", f"noisevote: cannot listen on 127.0.0.1 port {port}: Address already in use\n")
        assert start_line(serving)[1] == f"http://127.0.0.1:{port}"
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").is_success


def test_a_long_body_is_refused_before_it_is_sent(store: ModelStore) -> None:
    """A client that only announces a gigabyte has its 413 at once."""
    with server("--port", "0", "--model-store", str(store.root)) as process:
        connection = HTTPConnection(start_line(process)[1].removeprefix("http://"), timeout=TIMEOUT_S)
        connection.putrequest("POST", "/v1/models/tiny/predict")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", "1000000000")
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413
        assert json.loads(answer.read())["error"]["code"] == "body_too_large"
        connection.close()
