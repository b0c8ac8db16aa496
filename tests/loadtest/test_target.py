import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from noisevote.loadtest.errors import InputError, TargetError
from noisevote.loadtest.target import DIGIT, InputShape, Target, choose_input
from tests.support.load_samples import phase

pytestmark = pytest.mark.slow

DESCRIPTION = {
    "name": "a/b",
    "version": "3",
    "variants": ["mul-0.8"],
    "manifest": {"input": {"shape": [2, 3], "value_range": [-1.0, 1.0], "dtype": "float32"}},
}
SHAPE = InputShape(shape=(2, 3), value_range=(-1.0, 1.0))


@contextmanager
def answering(status: int, content: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server with one answer to everything; its address, and the paths that were asked for."""
    paths = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", paths
        finally:
            server.shutdown()
            thread.join()


def refused(url: str, model: str = "tiny") -> str:
    """Why the target could not be described."""
    with pytest.raises(TargetError) as caught:
        Target(url, model).describe()
    return str(caught.value)


def test_a_model_is_described_by_the_server() -> None:
    """Version and input are read, keys that are not needed are not, and the name is quoted in the path."""
    with answering(200, json.dumps(DESCRIPTION).encode()) as (url, paths):
        described = Target(f"{url}/", "a/b").describe()
    assert (described.name, described.version, described.manifest.input) == ("a/b", "3", SHAPE)
    assert paths == ["/v1/models/a%2Fb"]


def test_servers_that_say_something_else_are_refused_by_url() -> None:
    """With the server's own message where it has one."""
    known = json.dumps({"error": {"code": "unknown_model", "message": "model: 'tiny' is not one of big"}}).encode()
    for status, content, why in (
        (404, known, "answers 404: model: 'tiny' is not one of big"),
        (502, b"<html>", "answers 502"),
        (200, b"<html>", "answers something else than a model's description"),
        (200, b"{}", "answers something else than a model's description"),
    ):
        with answering(status, content) as (url, _):
            assert refused(url) == f"url {url}: /v1/models/tiny {why}"


def test_addresses_that_nobody_answers_are_refused_by_url() -> None:
    """A closed port, and what is no address of HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert refused(url).startswith(f"url {url}: ")
    assert "refused" in refused(url)
    assert refused("file:///etc") == "url file:///etc: no address that begins with http:// or https://"


def test_random_inputs_fit_the_model() -> None:
    """Float32 values of the shape inside the value range, the same in every run, whoever the model is."""
    sent = choose_input("tiny", SHAPE, None)
    assert sent.origin == "random values"
    assert sent.body["dtype"] == "float32"
    values = np.frombuffer(base64.b64decode(sent.body["b64"]), "<f4")
    assert values.size == 6
    assert values.min() > -1
    assert values.max() < 1
    assert len(set(values.tolist())) == 6
    assert sent == choose_input("tiny", SHAPE, None)


def test_the_digit_is_sent_to_the_model_of_digits_and_a_given_file_to_any(tmp_path: Path) -> None:
    """A file is sent as an image."""
    image = base64.b64encode(DIGIT.read_bytes()).decode()
    assert choose_input("mnist-cnn", SHAPE, None).body == {"image": image}
    (tmp_path / "other.png").write_bytes(b"other")
    assert choose_input("mnist-cnn", SHAPE, tmp_path / "other.png").body == {"image": "b3RoZXI="}
    with pytest.raises(InputError, match=r"input .*absent\.png: No such file"):
        choose_input("tiny", SHAPE, tmp_path / "absent.png")


def test_an_order_says_what_to_send_for_each_number_of_votes() -> None:
    """Sigma and rule of the phase, one input, and no seed."""
    order = Target("http://host", "tiny").order(phase(votes=(1, 20), rule="exact"), choose_input("tiny", SHAPE, None))
    assert order.path == "/v1/models/tiny/predict"
    bodies = {votes: json.loads(body) for votes, body in order.bodies.items()}
    assert {votes: body["votes"] for votes, body in bodies.items()} == {1: 1, 20: 20}
    for body in bodies.values():
        assert body.keys() == {"inputs", "sigma", "votes", "stop"}
        assert (body["sigma"], body["stop"], len(body["inputs"])) == (0.8, {"rule": "exact"}, 1)
