"""Servers as programs: started, halted while others have their turn, and ended with all that they started."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Final

import psutil

# An environment variable that all processes of a program inherit, some of which leave its session and their parents.
MARK: Final = "PEER_MARK"
GRACE_S: Final = 8


class Program:
    """A program that runs, with all processes that it has started, here called its processes."""

    def __init__(self, process: "subprocess.Popen[bytes]", mark: str) -> None:
        self._root = process
        self._mark = mark
        self._seen: set[psutil.Process] = set()

    @property
    def runs(self) -> bool:
        """Its first process has not ended."""
        return self._root.poll() is None

    def processes(self) -> set[psutil.Process]:
        """Those that run: descendants, members of its session, and whoever carries its mark; found once, never lost."""
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._root.pid)
            self._seen |= {root, *root.children(recursive=True)}
        self._seen |= {each for each in psutil.process_iter() if self._owns(each)}
        self._seen = {each for each in self._seen if each.is_running() and each.status() != psutil.STATUS_ZOMBIE}
        return self._seen

    def _owns(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):
            return os.getsid(process.pid) == self._root.pid or marked(process, self._mark)
        return False

    def halt(self) -> None:
        """Let none of its processes run until `go_on`."""
        self._signal(SIGSTOP)

    def go_on(self) -> None:
        """Let them run again."""
        self._signal(SIGCONT)

    def processor_seconds(self) -> float:
        """What its processes took of the processors so far, those that have ended left out."""
        total = 0.0
        for each in self._seen or self.processes():
            with suppress(psutil.Error):
                times = each.cpu_times()
                total += times.user + times.system
        return total

    def end(self) -> None:
        """Ask its first process to end, then all of them; whatever is left after a while is killed."""
        self.go_on()
        with suppress(ProcessLookupError):
            self._root.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._root.wait(GRACE_S)
        if left := self.processes():
            self._signal(SIGTERM)
            psutil.wait_procs(left, timeout=2)
            self._signal(SIGKILL)
        self._root.wait()

    def _signal(self, number: int) -> None:
        for each in self.processes():
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)


def marked(process: psutil.Process, mark: str) -> bool:
    """Whether a process was started with this mark."""
    content = Path(f"/proc/{process.pid}/environ").read_bytes()
    return f"{MARK}={mark}".encode() in content.split(b"\0")


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[Program]:
    """A program in its own session; what it prints goes to `log` in the folder, whose path is its mark.

    What is left of an earlier one with that mark, whose starter was killed, is killed first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = str(folder)
    for each in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if marked(each, mark):
                each.kill()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**environment, MARK: mark}, stdout=log, stderr=log, start_new_session=True
        )
    program = Program(process, mark)
    try:
        yield program
    finally:
        program.end()
