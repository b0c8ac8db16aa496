"""Who may come in, and what the server says on its streams, as a process."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import httpx
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.rest.keys import key_line
from tests.support.process import ROOT, TIMEOUT_S, clean_environment, ended, free_port, refusal, server, start_line
from tests.support.serving import publish_tiny

FULL = Path("/dev/full")


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The folder of a store with `tiny`."""
    publish_tiny(ModelStore(tmp_path / "models"))
    return str(tmp_path / "models")


def ask(address: str, **headers: str) -> int:
    """The status of asking what is served."""
    return httpx.get(f"{address}/v1/models", headers=headers).status_code


def test_away_from_loopback_the_server_makes_a_key_and_says_how_to_use_it(store: str) -> None:
    """Once, at start; the command that it shows works, and without it there is no way in."""
    with server("--port", "0", "--host", "0.0.0.0", "--model-store", store) as process:
        _, address = start_line(process)
        assert process.stdout is not None
        shown = process.stdout.readline()
        (command,) = re.findall(r"curl .*", shown)
        assert ask(address.replace("0.0.0.0", "127.0.0.1")) == 401
        here = command.replace("0.0.0.0", "127.0.0.1").replace("curl", "curl -s --noproxy '*'")
        done = subprocess.run(["bash", "-c", here], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
        assert [model["name"] for model in json.loads(done.stdout)["models"]] == ["tiny"]
        process.send_signal(signal.SIGTERM)
        status, output, errors = ended(process)
    assert (status, output) == (0, "")
    (key,) = re.findall(r"nv_[\w-]+", command)
    assert key not in errors
    who = [re.findall(r"noisevote.access: (key=\S+)", line) for line in errors.splitlines()]
    assert who == [["key=-"], ["key=this-run"]]


def test_serving_strangers_without_keys_is_a_decision(store: str) -> None:
    """`--insecure` serves; `--require-configured-keys` refuses with status 2 and one line, and so do both at once."""
    flags = ("--port", "0", "--host", "0.0.0.0", "--model-store", store)
    with server(*flags, "--insecure") as process:
        address = start_line(process)[1].replace("0.0.0.0", "127.0.0.1")
        assert ask(address) == ask(address, host="anything.example") == 200
        assert ask(address, origin="https://evil.example") == 403
    for given, message in (
        (["--require-configured-keys"], "no keys are configured"),
        (["--require-configured-keys", "--insecure"], "exclude each other"),
        (["--keys-file", "/nonexistent"], "--keys-file"),
        (["--keys-file", f"{ROOT}/README.md"], "NOISEVOTE_KEYS_FILE: .*: line "),
    ):
        status, output, errors = refusal(*flags, *given)
        assert (status, output) == (2, "")
        assert re.search(message, errors)
        assert errors.count("\n") == 1


def test_loopback_needs_no_key_and_is_not_driven_by_pages_elsewhere(store: str) -> None:
    """Other names of this machine, pages and proxies are refused; health is for everybody."""
    with server("--port", "0", "--model-store", store, NOISEVOTE_LOG_LEVEL="INFO") as process:
        _, address = start_line(process)
        port = address.rpartition(":")[2]
        assert ask(address) == ask(address, host=f"localhost:{port}") == ask(address, host="[::1]") == 200
        for headers in ({"host": f"evil.example:{port}"}, {"origin": "null"}, {"x-forwarded-for": "203.0.113.9"}):
            assert ask(address, **headers) == 403
            assert httpx.get(f"{address}/healthz", headers=headers).status_code == 200
        assert httpx.head(f"{address}/healthz").headers["content-length"] == "18"
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (0, "", "")  # no access log where no key is needed


def test_a_key_is_changed_while_the_server_runs(store: str, tmp_path: Path) -> None:
    """Within seconds, without a request failing that has a valid key."""
    path = tmp_path / "keys.jsonl"
    path.write_text(key_line("alice", ["predict"], "old"))
    with server("--port", "0", "--model-store", store, NOISEVOTE_KEYS_FILE=str(path)) as process:
        _, address = start_line(process)
        assert (ask(address), ask(address, **{"x-api-key": "old"})) == (401, 200)
        new = tmp_path / "new"
        new.write_text(key_line("alice", ["predict"], "new"))
        new.replace(path)
        while ask(address, **{"x-api-key": "new"}) != 200:
            assert process.poll() is None
            time.sleep(0.05)
        assert ask(address, **{"x-api-key": "old"}) == 401


def test_logs_are_json_where_that_is_asked_for(store: str) -> None:
    """Every line, those of requests with their fields."""
    flags = ("--port", "0", "--model-store", store, "--access-log", "on", "--log-format", "JSON")
    with server(*flags) as process:
        _, address = start_line(process)
        ask(address)
        process.send_signal(signal.SIGTERM)
        _, _, errors = ended(process)
    (line,) = [json.loads(each) for each in errors.splitlines()]
    assert line.items() >= {"logger": "noisevote.access", "status": 200, "path": "/v1/models"}.items()


@pytest.mark.parametrize("stdout", ["gone", "closed", "full"])
def test_nobody_needs_to_hear_the_start_line(store: str, stdout: str) -> None:
    """A reader that has left, no standard output at all, or a full disk: it serves, ends with 0, and no traceback."""
    if stdout == "full" and not FULL.exists():
        pytest.skip("no /dev/full here")
    port = free_port()
    command = [sys.executable, "-m", "noisevote", "serve", "--port", str(port), "--model-store", store]
    if stdout == "closed":
        command = ["bash", "-c", 'exec "$@" >&-', "bash", *command]
    with output_of(stdout) as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=clean_environment(), stdout=file, stderr=subprocess.PIPE, text=True
        )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}")
        process.send_signal(signal.SIGTERM)
        status, _, errors = ended(process)
    finally:
        process.kill()
    assert status == 0
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert ("cannot be written" in errors) == (stdout != "closed")


def output_of(kind: str) -> IO[str]:
    """A file to write to that is `gone` (a pipe nobody reads), or `full`."""
    if kind == "full":
        return FULL.open("w")
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def wait_until_ready(process: subprocess.Popen[str], address: str) -> None:
    """Return once models are served."""
    patience = time.monotonic() + TIMEOUT_S
    with httpx.Client(base_url=address) as client:
        while True:
            try:
                if client.get("/readyz").is_success:
                    return
            except httpx.TransportError:
                assert process.poll() is None
            assert time.monotonic() < patience
            time.sleep(0.05)
