"""Processor cores that replicas of one machine take for themselves, each core one at most.

Claims are locks on files, so that they need no coordinator, hold across several Ray nodes on one machine, and are
given back by the kernel however a replica ends.
"""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO


class NoCoreError(Exception):
    """Fewer cores are free than are wanted."""


class Claim:
    """Cores of this process: keep it for as long as they are wanted. Given back by `release`, or at its end."""

    def __init__(self, locks: dict[int, IO[bytes]]) -> None:
        self._locks = locks

    @property
    def cores(self) -> set[int]:
        """Numbers of the cores."""
        return set(self._locks)

    def release(self) -> None:
        """Give them back."""
        for lock in self._locks.values():
            lock.close()
        self._locks = {}


def claim(count: int, cores: Iterable[int], folder: Path) -> Claim:
    """Take the first `count` of `cores` that no other process has claimed in `folder`.

    Raises:
        NoCoreError: there are fewer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    locks: dict[int, IO[bytes]] = {}
    for core in cores:
        if len(locks) < count and (lock := _lock(folder / f"core-{core}.lock")) is not None:
            locks[core] = lock
    claimed = Claim(locks)
    if len(locks) < count:
        claimed.release()
        raise NoCoreError(f"cores: {count} wanted, {len(locks)} free by the locks in {folder}")
    return claimed


def keep_to(cores: set[int]) -> None:
    """Run this process, with all threads that it has and will have, on these cores alone."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)


def _lock(path: Path) -> IO[bytes] | None:
    """The open and locked file; None: another process has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
