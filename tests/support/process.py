"""Starts the server as a process."""

import io
import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from noisevote.service import __main__ as program
from tests.support.fork_server import ForkedServer, fork_server

ROOT = Path(__file__).parents[2]
DIGIT = ROOT / "examples" / "digit-7.png"
TIMEOUT_S = 60

# Not in the home folder, and kept from run to run.
TIMINGS = Path(tempfile.gettempdir()) / f"noisevote-tests-{os.getuid()}" / "timings.json"


def clean_environment(**variables: str) -> dict[str, str]:
    """The environment without settings of ours, and with these; batches are timed once for all servers of tests."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("NOISEVOTE_")}
    return others | {"NOISEVOTE_TIMINGS_FILE": str(TIMINGS)} | variables


Process = subprocess.Popen[str] | ForkedServer


@contextmanager
def server(*flags: str, **variables: str) -> Iterator[ForkedServer]:
    """A server process, forked from one that has imported it; killed at the end if it still runs."""
    process = fork_server().fork(["serve", *flags], clean_environment(**variables))
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.close()


@contextmanager
def fresh_server(*flags: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The same, started as one types it: for what is said of the start itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "noisevote", "serve", *flags],
        cwd=ROOT,
        env=clean_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def refusal(*flags: str, **variables: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a server that refuses to start, in this process: all else is its imports."""
    output, errors = io.StringIO(), io.StringIO()
    root, raising = logging.getLogger(), logging.raiseExceptions
    handlers, level, root.handlers = root.handlers, root.level, []
    try:
        with (
            patch.dict(os.environ, clean_environment(**variables), clear=True),
            patch.object(program, "_serve", side_effect=AssertionError("it serves")),
            redirect_stdout(output),
            redirect_stderr(errors),
        ):
            status = program.main(flags)
    finally:
        root.handlers, logging.raiseExceptions = handlers, raising
        root.setLevel(level)
    return status, output.getvalue(), errors.getvalue()


def start_line(process: Process) -> tuple[str, str]:
    """The line that the server prints when it is ready, and the address in it."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found is not None, f"{line!r}; stderr: {process.communicate(timeout=TIMEOUT_S)[1]}"
    return line, found.group()


def ended(process: Process) -> tuple[int, str, str]:
    """Exit status, further output, and errors."""
    output, errors = process.communicate(timeout=TIMEOUT_S)
    return process.wait(), output, errors


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
