import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from noisevote.engine import trial_watch
from noisevote.engine.trial_watch import MOST_TIMES, Watch, seconds_left, waited

SPINNING = "while True: pass"


@contextmanager
def process(code: str, *, cpu: int | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """Python that runs this, on one processor if it is named; ended at the end."""
    place = "" if cpu is None else f"import os; os.sched_setaffinity(0, {{{cpu}}})\n"
    with subprocess.Popen([sys.executable, "-c", place + code], stdin=subprocess.PIPE) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.mark.parametrize(
    ("lasted", "others", "left"),
    [(4.0, 0.0, 6.0), (12.0, 0.0, -2.0), (12.0, 5.0, 3.0), (39.0, 39.0, 1.0), (41.0, 41.0, -1.0)],
)
def test_time_that_others_had_does_not_count_within_bounds(lasted: float, others: float, left: float) -> None:
    """Of a limit of 10 s that may become 40."""
    assert MOST_TIMES == 4
    assert seconds_left(10.0, lasted, others) == pytest.approx(left)


@pytest.mark.parametrize("patient", [False, True])
@pytest.mark.parametrize("code", [SPINNING, "import time; time.sleep(1000)"])
def test_what_does_not_end_is_killed(code: str, patient: bool) -> None:
    """Whether it computes or waits for something that never comes."""
    with process(code) as hanging, Watch(hanging, 0.2, patient=patient) as watch:
        assert hanging.wait() == -9
    assert watch.late


def test_what_ends_in_time_is_let_be() -> None:
    """And whoever asked goes on at once."""
    with process("input()") as good:
        with Watch(good, 1000, patient=True, yielding=500) as watch:
            good.communicate(b"\n")
        assert not watch.late
        assert good.returncode == 0


def test_what_takes_long_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not killed for that."""
    given: queue.SimpleQueue[int] = queue.SimpleQueue()
    monkeypatch.setattr(trial_watch, "give_way", lambda process: given.put(process.pid))
    with process(SPINNING) as long, Watch(long, 1000, patient=False, yielding=0.1):
        assert given.get() == long.pid
        assert long.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell it")
def test_waiting_for_a_processor_is_seen() -> None:
    """Of two processes that share one, each waits."""
    cpu = min(os.sched_getaffinity(0))
    with process(SPINNING, cpu=cpu) as one, process(SPINNING, cpu=cpu) as other:
        while min(waited(one.pid), waited(other.pid)) < 0.05:
            assert one.poll() is None
            assert other.poll() is None


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    """As where the system does not tell."""
    with process("pass") as gone:
        gone.communicate()
    assert waited(gone.pid) == 0
