import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cores import NoCoreError, claim

ROOT = Path(__file__).parents[2]
# Claims two of cores 0 … 2, says which, and keeps them until it is killed.
HOLDER = """
import sys, time
from pathlib import Path
from deploy.cores import claim
claimed = claim(2, range(3), Path(sys.argv[1]))
print(sorted(claimed.cores), flush=True)
time.sleep(60)
"""
# Has a second thread, keeps to one core, and says where all its threads may run.
KEEPER = """
import os, threading
from deploy.cores import keep_to
halt = threading.Event()
threading.Thread(target=halt.wait).start()
keep_to({min(os.sched_getaffinity(0))})
print([len(os.sched_getaffinity(int(thread))) for thread in os.listdir("/proc/self/task")])
halt.set()
"""


def test_no_core_is_claimed_twice_and_a_killed_process_gives_its_own_back(tmp_path: Path) -> None:
    """While another process has cores 0 and 1 there is one left; once it is killed there are all three."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "[0, 1]\n"
        with pytest.raises(NoCoreError, match="2 wanted, 1 free"):
            claim(2, range(3), tmp_path)
        left = claim(1, range(3), tmp_path)
        assert left.cores == {2}
        left.release()
        holder.kill()
    everything = claim(3, range(3), tmp_path)
    assert everything.cores == {0, 1, 2}
    everything.release()


def test_released_cores_can_be_claimed_again(tmp_path: Path) -> None:
    """By the same process too."""
    first = claim(1, [5], tmp_path)
    with pytest.raises(NoCoreError):
        claim(1, [5], tmp_path)
    first.release()
    again = claim(1, [5], tmp_path)
    assert again.cores == {5}
    again.release()


def test_a_process_keeps_to_its_cores_with_all_its_threads() -> None:
    """Threads that were there before move as well."""
    done = subprocess.run([sys.executable, "-c", KEEPER], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[1, 1]\n"
