"""How many CPUs this process may use: the affinity mask, further limited by cgroup quotas."""

import os
from collections.abc import Iterator
from pathlib import Path

from noisevote.service.cgroups import cgroup_folders, words


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs of the affinity mask, or the whole CPUs of the tightest cgroup quota if that is less; at least 1.

    A quota of 1.5 CPUs counts as 1: a second thread would be stopped in every scheduling period. `root`
    holds `proc` and `sys`.
    """
    quotas = [*_quotas_v2(root), *_quotas_v1(root)]
    return max(1, min([_affinity(), *(int(quota) for quota in quotas)]))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas_v2(root: Path) -> Iterator[float]:
    """CPUs allowed by `cpu.max` ("<quota or max> <period>", microseconds) of this cgroup and its parents."""
    for mount in ("sys/fs/cgroup", "sys/fs/cgroup/unified"):
        for folder in cgroup_folders(root, mount, controller=""):
            match words(folder / "cpu.max"):
                case [quota, period] if quota.isdigit() and period.isdigit():
                    yield int(quota) / int(period)


def _quotas_v1(root: Path) -> Iterator[float]:
    """The same from `cpu.cfs_quota_us` (−1: none) and `cpu.cfs_period_us`."""
    for mount in ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"):
        for folder in cgroup_folders(root, mount, controller="cpu"):
            match words(folder / "cpu.cfs_quota_us"), words(folder / "cpu.cfs_period_us"):
                case [quota], [period] if quota.isdigit() and period.isdigit():
                    yield int(quota) / int(period)
