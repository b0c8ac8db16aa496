"""Programs of peers: started, ended with all that they started, or left out."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from benchmarks.peers.contenders import BYTE_PEERS, FLOAT_PEERS, OURS, PEERS, REQUIREMENTS, SERVERS, Unavailable
from benchmarks.peers.contenders import launched as launch
from benchmarks.peers.programs import marked, started
from benchmarks.peers.windows import BESIDE_100, HUNDRED, ONE, TWENTY, WAYS, Contender

pytestmark = pytest.mark.slow


def wait_for(condition: Callable[[], bool]) -> None:
    """Signals are obeyed soon, not at once."""
    while not condition():
        time.sleep(0.01)


FAMILY = """
import os, subprocess, sys, time
child = [sys.executable, "-c", "import time; time.sleep(60)"]
subprocess.Popen(child, start_new_session=True)
if (between := os.fork()) == 0:
    os.setsid()
    subprocess.Popen(child)
    os._exit(0)
os.waitpid(between, 0)
open("ready", "w").close()
signal = __import__("signal"); signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
time.sleep(60)
"""


def test_a_program_ends_with_all_that_it_started(tmp_path: Path) -> None:
    """Also what left its session and lost its parent; halted programs end too."""
    with started([sys.executable, "-c", FAMILY], os.environ, tmp_path) as program:
        while not (tmp_path / "ready").exists() or len(program.processes()) < 3:
            assert program.runs
        family = set(program.processes())
        program.halt()
        wait_for(lambda: {each.status() for each in family} == {psutil.STATUS_STOPPED})
        program.go_on()
        assert program.processor_seconds() > 0
        program.halt()
    assert not program.runs
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_what_is_left_of_a_killed_run_is_killed(tmp_path: Path) -> None:
    """The mark tells whose it is."""
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    left = started(sleeping, os.environ, tmp_path)
    program = left.__enter__()
    (old,) = program.processes()
    wait_for(lambda: marked(old, str(tmp_path)))
    assert not marked(old, str(tmp_path / "other"))
    with started(sleeping, os.environ, tmp_path):
        wait_for(lambda: old.status() == psutil.STATUS_ZOMBIE)
    left.__exit__(None, None, None)


def test_what_is_not_installed_is_left_out_with_a_reason(tmp_path: Path) -> None:
    """Nobody needs all of them; each has requirements and a program."""
    assert {peer.environment for peer in PEERS} == {file.stem for file in REQUIREMENTS.glob("*.txt")}
    assert len(list(SERVERS.glob("*_digits.py"))) == len({peer.environment for peer in PEERS})
    for peer in PEERS:
        with pytest.raises(Unavailable, match="not installed"), launch(peer, tmp_path, {}):
            pass


def test_peers_are_asked_in_all_ways_and_ours_also_for_early_stops() -> None:
    """Bytes of peers are left out of one way, which is long; early stops are asked for where decisions are compared."""
    assert {Contender.of(peer).ways for peer in BYTE_PEERS} == {(ONE, TWENTY, BESIDE_100)}
    for peer in FLOAT_PEERS:
        assert set(Contender.of(peer).ways) == set(WAYS) - {HUNDRED}
    assert Contender.ours("int8").ways == tuple(WAYS)
    early = Contender.ours("int8", early=True)
    assert (early.name, early.ways) == (f"{OURS}, int8, exact", (TWENTY,))
    assert all(b'"exact"' in body and b'"mul-0.9-int8-op2"' in body for body in early.bodies[20])
