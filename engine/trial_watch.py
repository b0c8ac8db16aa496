"""Watches the time of a process that tries files, and its place behind what serves."""

import os
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from noisevote.engine.trial import BESIDE_PRIORITY

# Beside what serves, a trial may last so many times its limit while others have the processors.
MOST_TIMES: Final = 4
# The limit is looked at no more often.
LOOK_S: Final = 0.05


def give_way(process: subprocess.Popen[bytes], priority: int = BESIDE_PRIORITY) -> None:
    """Let others have the processors before this process, which stays so; it must be in their session.

    Linux shares processors between sessions first (sched(7), autogroup), whatever the priorities inside of them.
    """
    with suppress(OSError):  # it has ended
        os.setpriority(os.PRIO_PROCESS, process.pid, priority)


class Watch:
    """Kills a process that takes longer than so many seconds inside the `with` block.

    Args:
        process: it computes on its main thread.
        seconds: its limit.
        patient: time in which it is ready and others have the processors does not count, as long as it lasts no more
            than `MOST_TIMES` the limit.
        yielding: after so many seconds it gives way.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], seconds: float, *, patient: bool, yielding: float | None = None
    ) -> None:
        self.late = False
        self._process = process
        self._seconds = seconds
        self._patient = patient
        self._yielding = yielding
        self._began = self._waited = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch a trial", daemon=True)

    def __enter__(self) -> Self:
        self._began, self._waited = time.monotonic(), waited(self._process.pid)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        if self._yielding is not None and self._yielding < self._seconds:
            if self._over.wait(self._yielding):
                return
            give_way(self._process)
        while (left := self._left()) > 0:
            if self._over.wait(max(left, LOOK_S)):
                return
        self.late = True
        self._process.kill()

    def _left(self) -> float:
        lasted = time.monotonic() - self._began
        others = waited(self._process.pid) - self._waited if self._patient else 0.0
        return seconds_left(self._seconds, lasted, others)


def seconds_left(limit: float, lasted: float, others: float) -> float:
    """What is left of a limit, if the process has a processor from now on.

    Args:
        limit: seconds.
        lasted: seconds that it has lasted.
        others: seconds of these for which it waited while others had the processors.
    """
    return min(limit + others, MOST_TIMES * limit) - lasted


def waited(process: int) -> float:
    """Seconds for which the main thread of a process was ready to run and others had the processors.

    0 where the system does not tell: not Linux, or a kernel without it (Documentation/scheduler/sched-stats).
    """
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
