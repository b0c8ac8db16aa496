"""Commands that ask a server, as one types them, against the repository's models."""

import io
import json
import os
import pty
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from noisevote.__main__ import main as noisevote
from noisevote.client import Answer, Client
from tests.support.process import DIGIT, ROOT, TIMEOUT_S, clean_environment, free_port


def process(*arguments: str | Path, url: str) -> subprocess.CompletedProcess[bytes]:
    """The command as a process."""
    command = [sys.executable, "-m", "noisevote", *map(str, arguments)]
    environment = clean_environment(NOISEVOTE_URL=url)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False, timeout=TIMEOUT_S)


def run(
    *arguments: str | Path, url: str | None = None, given: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """The command with that environment and those streams, in this process: most of a short one's time is its start."""
    environment = clean_environment(**variables) | ({} if url is None else {"NOISEVOTE_URL": url})
    output, errors = io.BytesIO(), io.BytesIO()
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(given))),
        redirect_stdout(io.TextIOWrapper(output, write_through=True)),
        redirect_stderr(io.TextIOWrapper(errors, write_through=True)),
    ):
        try:
            status = noisevote([*map(str, arguments)])
        except SystemExit as end:
            status = int(end.code or 0)
        return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())


def printed(*arguments: str | Path, url: str, **more: Any) -> str:
    """Standard output of a command that must succeed."""
    done = run(*arguments, url=url, **more)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


NOISY = ("--sigma", "0.8", "--votes", "50", "--seed", "7")


def test_predict_shows_the_votes_as_bars(published: str) -> None:
    """A line for each class, and the facts that repeat it; no escape sequences where it is no terminal."""
    done = process("predict", DIGIT, *NOISY, url=published)
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode()
    first, *bars, facts = shown.splitlines()
    with Client(published) as client:
        (prediction,) = client.predict("mnist-cnn", DIGIT, sigma=0.8, votes=50, seed=7).predictions
    assert prediction.histogram is not None
    assert first.startswith(f"{DIGIT}: 7: {prediction.histogram[7]} of 50 votes")
    assert [(line.split()[0], int(line.split()[-1])) for line in bars] == [
        (str(index), votes) for index, votes in enumerate(prediction.histogram)
    ]
    assert facts.startswith("mnist-cnn 3 mul-0.9 | sigma 0.8 multiplicative | seed 7 | ")
    assert "\x1b" not in shown


def test_predict_takes_what_the_client_takes(published: str, tmp_path: Path) -> None:
    """Several files, arrays, and a picture on standard input; `--json` is the server's answer."""
    np.save(tmp_path / "two.npy", np.zeros((2, 1, 28, 28), np.uint8))
    shown = printed(
        "predict", DIGIT, tmp_path / "two.npy", "-", *NOISY, "--json", url=published, given=DIGIT.read_bytes()
    )
    answer = json.loads(shown)
    assert len(answer["predictions"]) == 4
    lines = printed("predict", DIGIT, tmp_path / "two.npy", *NOISY, url=published).splitlines()
    assert len(lines) == 4


@pytest.mark.prove  # many commands, each a process of its own
def test_on_a_terminal_votes_are_drawn_while_they_come_in(published: str) -> None:
    """Drawn over several times before the answer, which is that of `--json`."""
    arguments = ["predict", str(DIGIT), "--sigma", "1", "--votes", "2000", "--seed", "3"]
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "noisevote", *arguments]
    environment = clean_environment(NOISEVOTE_URL=published, PYTHONIOENCODING="utf-8")
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        shown = bytearray()
        while part := _read(ours):
            shown += part
        assert process.wait(TIMEOUT_S) == 0
    os.close(ours)
    drawings = shown.decode().split("\x1b[J")
    assert len(drawings) > 4
    (prediction,) = json.loads(printed(*arguments, "--json", url=published))["predictions"]
    last = drawings[-1].splitlines()
    assert [int(line.split()[-1]) for line in last[1:11]] == prediction["histogram"]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so where the other end is closed
        return b""


@pytest.mark.prove  # many commands, each a process of its own
def test_models_plans_and_certificates(published: str, tmp_path: Path) -> None:
    """Each for people and for programs, with the exit status that says yes or no."""
    listed = printed("models", url=published)
    served = {model["name"]: model for model in json.loads(printed("models", "--json", url=published))["models"]}
    assert [line.split()[0] for line in listed.splitlines()] == ["model", *served]
    assert "mul-0.9" in printed("models", "mnist-cnn", url=published)

    planned = printed("plan", "--sigma", "0.8", "--accuracy", "0.995", url=published)
    assert "plan  mul-0.6  2      3" in planned
    none = run("plan", "--sigma", "0.8", "--accuracy", "0.99999", "--json", url=published)
    assert (none.returncode, json.loads(none.stdout)["feasible"]) == (1, False)

    saved = tmp_path / "certificates.json"
    flags = ("--variant", "add-0.5", "--n", "1000", "--save", saved)
    shown = printed("certify", DIGIT, *flags, url=published)  # the only model that certifies
    assert shown.startswith(f"{DIGIT}: 7 within radius ")
    assert run("verify", saved, "--input", DIGIT).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["predict", "none.png"], 2, "none.png: No such file or directory"),
        (["predict", str(DIGIT), "--sigma", "-3"], 2, "sigma: -3.0"),
        (["predict", str(DIGIT), "--model", "other"], 1, "other"),
        (["predict", str(DIGIT), "--delta", "0.1"], 2, "--delta 0.1 is of --stop confidence"),
        (["predict", str(DIGIT), "--votes", "many"], 2, "'many'"),
        (["plan", "--accuracy", "0.9"], 2, "--sigma or --snr-db is needed"),
        (["models", "mnist-cnn", "--model-version", "99"], 1, "99"),
        (["models", "--key-file", "none.txt"], 2, "--key-file none.txt"),
        (["models", "--timeout-s", "0"], 2, "'0' is no time above 0"),
    ],
)
def test_what_is_wrong_is_told_in_words(published: str, arguments: list[str], status: int, message: str) -> None:
    """The server's own where it refuses; never a traceback."""
    done = run(*arguments, url=published)
    assert (done.returncode, done.stdout) == (status, b"")
    told = done.stderr.decode()
    assert message in told
    assert f"noisevote {arguments[0]}: " in told
    assert "Traceback" not in told


@pytest.mark.parametrize("command", [["models"], ["predict", str(DIGIT)], ["plan", "--sigma", "1", "--accuracy", "1"]])
def test_where_no_server_answers_it_says_what_to_do(command: list[str]) -> None:
    """One line and status 1; a flag wins over the variable."""
    url = f"http://127.0.0.1:{free_port()}"
    done = run(*command, "--url", url, url="http://elsewhere.example")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().startswith(f"noisevote {command[0]}: {url}: no server answers")
    assert b"noisevote serve" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_variables_are_defaults_that_flags_override(published: str) -> None:
    """NOISEVOTE_MODEL names the model, `--model` another."""
    shown = json.loads(printed("predict", DIGIT, "--json", url=published, NOISEVOTE_MODEL="mnist-smoothed"))
    assert shown["model"] == "mnist-smoothed"
    flags = ("--model", "mnist-cnn-robust", "--json")
    assert json.loads(printed("predict", DIGIT, *flags, url=published, NOISEVOTE_MODEL="x"))["model"] == flags[1]


def test_the_blocking_client_asks_a_live_server(published: str) -> None:
    """Over sockets: predictions, a stream, a replay."""
    with Client(published) as client:
        answer = client.predict("mnist-cnn", [DIGIT], sigma=1.0, votes=200, returns="votes")
        *standings, last = client.stream("mnist-cnn", DIGIT, sigma=1.0, votes=3000, seed=4)
        assert standings
        assert isinstance(last, Answer)
        found = client.replay(answer, DIGIT)
    assert (found.outcome, found.differences) == ("same to the last bit", ())


def test_output_into_a_pipe_that_closes_is_no_error(published: str) -> None:
    """As `| head -1` does."""
    environment = clean_environment(NOISEVOTE_URL=published)
    line = f"{sys.executable} -m noisevote models --json | head -c 10"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=ROOT, env=environment, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b'{"models":', b"")


def test_replay_repeats_an_answer_on_server_kernel_and_function_body(published: str, tmp_path: Path) -> None:
    """To the last bit where the same code computes; but for close votes on the body in stock ONNX Runtime."""
    file = tmp_path / "answer.json"
    printed("predict", DIGIT, "--sigma", "1", "--votes", "300", "--return", "votes", "--save", file, url=published)
    for place in ("server", "process"):
        shown = printed("replay", file, "--input", DIGIT, "--on", place, url=published)
        assert shown.startswith("same to the last bit: 300 votes on 1 inputs, seed ")
    found = json.loads(printed("replay", file, "--input", DIGIT, "--on", "stock", "--json", url=published))
    assert found["repeats"]
    assert found["close_votes"] is not None


def test_a_process_ends_with_the_status_of_its_command(published: str) -> None:
    """As scripts see it, and with what it says on its own streams."""
    done = process("models", "mnist-cnn", "--model-version", "99", url=published)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"noisevote models: ")


def test_replay_says_no_and_says_that_it_cannot(published: str, tmp_path: Path) -> None:
    """Statuses 1 and 2, each with its reason."""
    file = tmp_path / "answer.json"
    printed("predict", DIGIT, "--sigma", "1", "--save", file, url=published)
    answer = json.loads(file.read_text())
    answer["predictions"][0]["histogram"][0] += 1
    file.write_text(json.dumps(answer))
    done = run("replay", file, "--input", DIGIT, url=published)
    assert done.returncode == 1
    assert done.stdout.startswith(b"different: 20 votes")
    assert b"predictions[0].histogram: (" in done.stdout
    answer["predictions"][0]["complete"] = False
    file.write_text(json.dumps(answer))
    done = run("replay", file, "--input", DIGIT, url=published)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"a deadline cut it after 20 of at most 20 votes" in done.stderr
    assert b"cannot be repeated" in done.stderr
    file.write_text("{}")
    done = run("replay", file, "--input", DIGIT, url=published)
    assert (done.returncode, done.stdout) == (2, b"")
    assert str(file).encode() in done.stderr
