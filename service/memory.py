"""How much memory this process may use: the machine's, further limited by cgroups."""

import os
from collections.abc import Iterator
from pathlib import Path

from noisevote.service.cgroups import cgroup_folders, words


def usable_memory(root: Path = Path("/")) -> int:
    """Bytes of the tightest cgroup limit, or of the machine if that is less. `root` holds `proc` and `sys`."""
    return min([total_memory(root), *_limits(root)])


def total_memory(root: Path = Path("/")) -> int:
    """Bytes that the machine has."""
    match words(root / "proc/meminfo")[:2]:
        case ["MemTotal:", kibibytes] if kibibytes.isdigit():
            return int(kibibytes) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limits(root: Path) -> Iterator[int]:
    """Of this process's cgroup and its parents: `memory.max` of version 2, `memory.limit_in_bytes` of version 1."""
    hierarchies = [(f"sys/fs/cgroup{part}", "", "memory.max") for part in ("", "/unified")]
    hierarchies.append(("sys/fs/cgroup/memory", "memory", "memory.limit_in_bytes"))
    for mount, controller, name in hierarchies:
        for folder in cgroup_folders(root, mount, controller):
            match words(folder / name):
                case [limit] if limit.isdigit():
                    yield int(limit)
