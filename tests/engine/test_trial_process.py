import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from noisevote.engine.errors import BadModelError
from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.engine.trial import BESIDE_PRIORITY, Expectation, TrialLimits
from noisevote.engine.trial_process import TrialProcess
from noisevote.noise_op.library import load_kernel
from tests.support.graphs import CLASSES, SHAPE, tiny_network
from tests.support.manifests import manifest
from tests.support.poison import HANGING, OTHERS

pytestmark = pytest.mark.slow

GOOD = tiny_network()
EXPECTATION = Expectation.of(manifest({"a": GOOD}, shape=SHAPE, classes=tuple(map(str, range(CLASSES)))))
HANGS = HANGING["loop"].content


def trial_of(seconds: float) -> TrialProcess:
    """Trials with a time limit."""
    return TrialProcess(load_kernel(), TrialLimits(seconds, memory=2**30))


@pytest.fixture
def trial() -> Iterator[TrialProcess]:
    """A trial that has let a good file pass."""
    trial = trial_of(60)
    trial.check(EXPECTATION, GOOD)
    yield trial
    trial.close()


def process_of(trial: TrialProcess) -> int:
    """Its process."""
    assert trial._process is not None
    return trial._process.pid


def runs(process: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{process}").exists()


def test_files_share_a_process_and_bad_ones_leave_it(trial: TrialProcess) -> None:
    """What is wrong with a file is told as if it had been loaded here."""
    first = process_of(trial)
    for name in ("always-two-rows", "nan-weights", "outside", "eight-gibibytes"):
        with pytest.raises(BadModelError, match=OTHERS[name].reason):
            trial.check(EXPECTATION, OTHERS[name].content)
    trial.check(EXPECTATION, GOOD)
    assert process_of(trial) == first


def test_a_process_that_was_started_ahead_tries_the_first_files() -> None:
    """Within the same limits, and once: a second trial, or one of other limits, has a process of its own."""
    ahead = trial_of(60)
    ahead.start()
    first = process_of(ahead)
    engine = OnnxEngine(load_kernel(), ahead)
    assert engine.trial(replace(ahead.limits, seconds=30)) is not ahead
    assert engine.trial(ahead.limits) is ahead
    assert engine.trial(ahead.limits) is not ahead
    engine.tidy()  # which ends no trial that is used
    ahead.check(EXPECTATION, GOOD)
    assert process_of(ahead) == first
    ahead.close()


def test_a_process_that_was_started_for_no_file_ends() -> None:
    """Once loading is over."""
    ahead = trial_of(60)
    ahead.start()
    process = process_of(ahead)
    OnnxEngine(load_kernel(), ahead).tidy()
    assert not runs(process)


def test_what_onnx_runtime_says_is_for_the_log(trial: TrialProcess) -> None:
    """The reason is ours, the detail is its own."""
    with pytest.raises(BadModelError) as caught:
        trial.check(EXPECTATION, OTHERS["opset"].content)
    assert "opset" in caught.value.detail.lower()
    assert "opset" not in str(caught.value).lower()


def test_a_file_that_hangs_is_given_up_at_its_time_and_the_next_one_is_tried() -> None:
    """By killing the process; the next file has another one."""
    trial = trial_of(1.0)
    try:
        began = time.monotonic()
        with pytest.raises(BadModelError, match="longer than 1 s"):
            trial.check(EXPECTATION, HANGS)
        assert time.monotonic() - began > 1
        trial._limits = TrialLimits(60, 2**30)  # on a busy machine even good files take a while
        trial.check(EXPECTATION, GOOD)
    finally:
        trial.close()


def test_a_process_that_dies_refuses_its_file_alone(trial: TrialProcess) -> None:
    """As a crash inside ONNX Runtime would."""
    first = process_of(trial)
    killer = threading.Timer(0.3, os.kill, (first, 11))
    killer.start()
    with pytest.raises(BadModelError, match="ends the process that does") as caught:
        trial.check(EXPECTATION, HANGS)
    assert caught.value.detail == "exit status -11"
    trial.check(EXPECTATION, GOOD)
    assert process_of(trial) != first


def test_abandoning_ends_what_hangs_and_what_would_come(trial: TrialProcess) -> None:
    """At once, from another thread, and no process is left."""
    first = process_of(trial)
    threading.Timer(0.3, trial.abandon).start()
    for content in (HANGS, GOOD):
        with pytest.raises(BadModelError, match="about to end"):
            trial.check(EXPECTATION, content)
    assert not runs(first)


def test_closing_ends_the_process(trial: TrialProcess) -> None:
    """And once more does nothing."""
    first = process_of(trial)
    trial.close()
    trial.close()
    assert not runs(first)


def test_beside_what_serves_the_process_gives_way_and_is_reached_by_no_ctrl_c() -> None:
    """Its priority counts against the server's threads only within one session; it has a process group of its own."""
    trial = TrialProcess(load_kernel(), TrialLimits(60, memory=2**30, beside=True))
    try:
        trial.check(EXPECTATION, GOOD)
        process = process_of(trial)
        assert os.getpriority(os.PRIO_PROCESS, process) >= BESIDE_PRIORITY
        assert os.getsid(process) == os.getsid(0)
        assert os.getpgid(process) == process
    finally:
        trial.close()
