"""Forks servers from a process that has imported them: imports are nine tenths of what a small server's start takes.

Run as a program, it is that process. What is forked is a process of its own, with the environment, working directory,
arguments and streams that it was given; only `sys.path` and what is imported come from where it was forked.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Final

from noisevote.__main__ import main as noisevote
from noisevote.service.importing import leanly

ROOT: Final = Path(__file__).parents[2]
# Of a request: its JSON, and the writing ends of standard output, standard error, and the pipe that tells its status.
REQUEST_BYTES: Final = 2**18
REQUEST_FILES: Final = 3


class ForkedServer:
    """A server that was forked: used as a `subprocess.Popen` in text mode, whose names these are."""

    def __init__(self, status: IO[bytes], stdout: IO[str], stderr: IO[str]) -> None:
        self.pid = int(status.readline())
        self.returncode: int | None = None
        self.stdout = stdout
        self.stderr = stderr
        self._status = status

    def poll(self) -> int | None:
        """Exit status; None while it runs."""
        return self._told(0)

    def wait(self, timeout: float | None = None) -> int:
        """Exit status, once it has ended.

        Raises:
            TimeoutExpired: it has not ended within so many seconds.
        """
        status = self._told(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("noisevote", timeout or 0.0)
        return status

    def send_signal(self, sent: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sent)

    def kill(self) -> None:
        """End it at once, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it writes until it ends."""
        with ThreadPoolExecutor(2) as readers:
            written = [readers.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                output, errors = (each.result(timeout) for each in written)
            except TimeoutError:
                self.kill()
                raise subprocess.TimeoutExpired("noisevote", timeout or 0.0) from None
        self.wait(timeout)
        self.close()
        return output, errors

    def close(self) -> None:
        """Let go of its streams."""
        for file in (self.stdout, self.stderr, self._status):
            file.close()

    def _told(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
            self.returncode = int(self._status.readline())
        return self.returncode


class ForkServer:
    """The process that forks, from the first server on."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())], cwd=ROOT, pass_fds=[theirs.fileno()]
            )

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str]) -> ForkedServer:
        """Start `noisevote` with these arguments and this environment, in the repository's root."""
        request = json.dumps({"arguments": arguments, "environment": dict(environment)}).encode() + b"\n"
        status, stdout, stderr = (os.pipe() for _ in range(REQUEST_FILES))
        ends = [stdout[1], stderr[1], status[1]]
        sent = socket.send_fds(self._control, [request], ends)
        self._control.sendall(request[sent:])
        for end in ends:
            os.close(end)
        return ForkedServer(os.fdopen(status[0], "rb", buffering=0), os.fdopen(stdout[0]), os.fdopen(stderr[0]))

    def close(self) -> None:
        """End it; all that it forked has ended."""
        self._control.close()
        self._process.wait()


@cache
def fork_server() -> ForkServer:
    """The one of this process."""
    return ForkServer()


def close_fork_server() -> None:
    """End the one of this process, if there is one."""
    if fork_server.cache_info().currsize:
        fork_server().close()
        fork_server.cache_clear()


def serve_requests(control: socket.socket) -> int:
    """Fork servers as long as there is somebody to ask for them; in what was forked, exit status of the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which then close `control`
    with control:
        while (request := _request(control)) is not None:
            content, files = request
            if os.fork() == 0:
                control.close()
                return _guarded(content, files)
            for file in files:
                os.close(file)
    while _reaped():
        pass
    return 0


def _reaped() -> bool:
    """Wait for one of those that were forked, so that what they took is counted; False: none is left."""
    try:
        os.wait()
    except ChildProcessError:
        return False
    return True


def _request(control: socket.socket) -> tuple[bytes, list[int]] | None:
    content, files, _, _ = socket.recv_fds(control, REQUEST_BYTES, REQUEST_FILES)
    while content and not content.endswith(b"\n"):
        content += control.recv(REQUEST_BYTES)
    return (content, files) if content else None


def _guarded(content: bytes, files: list[int]) -> int:
    """Exit status of the server, in its own process; the one around it tells which that is, and how it ended."""
    *streams, told = files
    if (server := os.fork()) == 0:
        os.close(told)
        return _serve(content, streams)
    for stream in streams:
        os.close(stream)
    os.write(told, f"{server}\n".encode())
    _, status = os.waitpid(server, 0)
    os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _serve(content: bytes, streams: list[int]) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked = json.loads(content)
    os.environ.clear()
    os.environ.update(asked["environment"])
    for stream, number in zip(streams, (sys.stdout.fileno(), sys.stderr.fileno()), strict=True):
        os.dup2(stream, number)
        os.close(stream)
    return noisevote(asked["arguments"])


if __name__ == "__main__":
    with leanly():
        import_module("noisevote.service.__main__")  # what all servers need
    sys.exit(serve_requests(socket.socket(fileno=int(sys.argv[1]))))
