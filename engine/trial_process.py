"""Tries files in a process of its own, which is killed and replaced when one of them hangs, crashes or eats memory."""

import json
import os
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Final

from noisevote.engine.errors import BadModelError
from noisevote.engine.footprint import Footprint
from noisevote.engine.trial import Expectation, TrialLimits
from noisevote.engine.trial_watch import Watch, give_way
from noisevote.noise_op.library import Kernel

CHILD: Final = "noisevote.engine.trial_child"
# What comes before each file: how long its description, as JSON, and its content are.
LENGTHS: Final = struct.Struct(">QQ")
READY: Final = b"ready\n"
# Keys of a description, and of an answer.
WEIGH: Final = "weigh"
FOOTPRINT: Final = "footprint"
# Starting Python and ONNX Runtime takes half a second; a machine with much else to do may need longer.
START_S: Final = 60.0
# After so long a file probably hangs, and shall not disturb the timing of others.
YIELD_S: Final = 2.0
END_S: Final = 5.0


class TrialProcess:
    """A `Trial`. The process starts with the first file, unless `start` was called before."""

    def __init__(self, kernel: Kernel | None, limits: TrialLimits) -> None:
        self._kernel = kernel
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._abandoned = threading.Event()

    @property
    def limits(self) -> TrialLimits:
        """Of each file."""
        return self._limits

    def start(self) -> None:
        """Start the process, and do not wait until it is ready."""
        kernel = "-" if self._kernel is None else str(self._kernel.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", CHILD, kernel, str(self._limits.memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            process_group=0,  # Ctrl-C is for the server, which tells this process
        )
        self._ready = False

    def check(self, expectation: Expectation, content: bytes, *, weigh: bool = False) -> Footprint | None:
        """Load a file and run it there; see `Trial.check`."""
        process = self._started()
        description = json.dumps(expectation.as_dict() | {WEIGH: weigh}).encode()
        message = b"".join((LENGTHS.pack(len(description), len(content)), description))
        beside = self._limits.beside
        watch = Watch(process, self._limits.seconds, patient=beside, yielding=None if beside else YIELD_S)
        answer = _ask(process, (message, content), watch)
        if not answer.endswith(b"\n"):
            raise self._lost(late=watch.late)
        found = json.loads(answer)
        if "reason" in found:
            raise BadModelError(found["reason"], found["detail"])
        return Footprint(**found[FOOTPRINT]) if FOOTPRINT in found else None

    def abandon(self) -> None:
        """Kill the process, and start none any more."""
        self._abandoned.set()
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        """The process, ready for a file."""
        if self._process is None:
            self.start()
        process = self._process
        assert process is not None  # it was just started
        if self._ready:
            return process
        if self._limits.beside:
            give_way(process)
        if self._abandoned.is_set():  # since it was looked at last
            process.kill()
        watch = Watch(process, START_S, patient=self._limits.beside)
        if _ask(process, (), watch) != READY:
            raise self._lost(late=False)
        self._ready = True
        return process

    def _lost(self, *, late: bool) -> BadModelError:
        """What to say of a file whose trial gave no answer; the next file gets another process."""
        assert self._process is not None
        status = _end(self._process)
        self._process = None
        if self._abandoned.is_set():
            return BadModelError("given up, because the server is about to end")
        if late:
            return BadModelError(f"loading it and running it takes longer than {self._limits.seconds:g} s")
        return BadModelError("trying it ends the process that does", f"exit status {status}")


def _ask(process: subprocess.Popen[bytes], message: tuple[bytes, ...], watch: Watch) -> bytes:
    """Send bytes and wait for a line; empty if the process ends before, or is killed by the watch."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with watch:
            for part in message:
                process.stdin.write(part)
            process.stdin.flush()
            return process.stdout.readline()
    except OSError:  # it ended while it was written to
        return b""


def _end(process: subprocess.Popen[bytes]) -> int:
    """Exit status of a process that is ending, or is ended now."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(OSError):
        process.stdin.close()
    try:
        status = process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    process.stdout.close()
    return status
