"""The process that tries files: reads one after another from its standard input, and answers each with a line.

`python -m noisevote.engine.trial_child <kernel's path or "-"> <bytes of memory>`; `trial_process` starts it.
It is killed when a file takes too long, and a crash or too much memory ends it alone.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

from noisevote.engine.errors import BadModelError
from noisevote.engine.session import keep_arena_small, open_session
from noisevote.engine.trial import Expectation
from noisevote.engine.trial_process import FOOTPRINT, LENGTHS, READY, WEIGH
from noisevote.engine.weighing import weigh
from noisevote.noise_op.library import Kernel, open_kernel

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Try files until there are no more."""
    path, memory = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    _end_with_parent()
    _go_first()
    kernel = None if path == "-" else open_kernel(Path(path))
    _limit_memory(int(memory))
    keep_arena_small()
    _write(answers, READY)
    while lengths := sys.stdin.buffer.read(LENGTHS.size):
        described, size = LENGTHS.unpack(lengths)
        description = json.loads(sys.stdin.buffer.read(described))
        weighed = description.pop(WEIGH)
        expectation = Expectation.from_dict(description)
        content = sys.stdin.buffer.read(size)
        _write(answers, json.dumps(_tried(content, expectation, kernel, weighed=weighed)).encode() + b"\n")


def _tried(content: bytes, expectation: Expectation, kernel: Kernel | None, *, weighed: bool) -> dict[str, Any]:
    """Why the file is refused, and details for the log; else its footprint, if asked for and where it can be told."""
    try:
        session = open_session(content, expectation, kernel)
        footprint = weigh(session.shrinking(), expectation) if weighed else None
        return {} if footprint is None else {FOOTPRINT: asdict(footprint)}
    except BadModelError as error:
        return {"reason": str(error), "detail": error.detail}
    except MemoryError:
        return {"reason": "trying it takes more memory than it may have", "detail": ""}
    except Exception as error:  # whatever it is, the file is what is wrong
        return {"reason": f"trying it fails ({type(error).__name__})", "detail": str(error)}


def _end_with_parent() -> None:
    """Be killed when the thread that started this process ends, however it ends; on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _go_first() -> None:
    """Be the process to go where a container's memory ends; on Linux."""
    with suppress(OSError):  # other systems have no such file
        Path("/proc/self/oom_score_adj").write_text("1000")


def _limit_memory(most: int) -> None:
    """Let allocations fail that go so far beyond what is in use now; on Linux."""
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        soft = used + most if hard == resource.RLIM_INFINITY else min(used + most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _write(answers: BinaryIO, line: bytes) -> None:
    answers.write(line)
    answers.flush()


if __name__ == "__main__":
    main()
