"""The machine: processors, memory, open files, clock, ports."""

import os
import resource
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from noisevote.doctor.finding import Finding, failure, ok, warning
from noisevote.service.cpus import usable_cpus
from noisevote.service.memory import total_memory, usable_memory

# The published models take about half of it; loading one file may take more for a moment.
LEAST_MEMORY: Final = 2**30
# Connections that a small server is likely to have, and what it opens beside.
LEAST_FILES: Final = 1024
COARSEST_CLOCK_S: Final = 1e-3


def processors(root: Path = Path("/")) -> Finding:
    """How many processors the process may use, of those that the machine has. `root` holds `proc` and `sys`."""
    usable, present = usable_cpus(root), os.cpu_count() or 1
    found = f"{usable} of {present} may be used, a thread each"
    if usable < present:
        return warning(
            "threads", found, "affinity or a cgroup allows no more; raise the quota if votes come too slowly"
        )
    return ok("threads", found)


def memory(root: Path = Path("/")) -> Finding:
    """What a cgroup or the machine leaves of memory. `root` as above."""
    least = usable_memory(root)
    limited = "the machine has" if least == total_memory(root) else "the cgroup allows"
    found = f"{limited} {least / 2**20:,.0f} MiB"
    if least < LEAST_MEMORY:
        return warning("memory", found, "allow 1 GiB, or serve fewer models, and set --load-bytes below the limit")
    return ok("memory", found)


def open_files() -> Finding:
    """How many files the process may open, of which each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return ok("open files", "no limit")
    if hard < LEAST_FILES:
        return warning("open files", f"at most {hard}", f"allow {LEAST_FILES} (ulimit -Hn); each connection is one")
    return ok("open files", f"at most {hard}")


def clock(newest: datetime | None = None, now: datetime | None = None) -> Finding:
    """Whether times can be measured and the date can be right: no model is published later than today."""
    resolution = time.get_clock_info("perf_counter").resolution
    today = now or datetime.now(UTC)
    if newest is not None and newest > today:
        found = f"{today:%Y-%m-%d %H:%M} UTC, but a model was published on {newest:%Y-%m-%d}"
        return warning("clock", found, "set the clock; logs, keys and traces of a wrong time mislead")
    if resolution > COARSEST_CLOCK_S:
        return warning("clock", f"ticks of {resolution:g} s", "batch sizes are chosen by times, which are then coarse")
    return ok("clock", f"{today:%Y-%m-%d %H:%M} UTC, ticks of {resolution:g} s")


def port(host: str, number: int) -> Finding:
    """Whether a server could listen there."""
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
            tried.listen(1)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return failure("port", f"{host} port {number}: {why}", "end what listens there, or choose another with --port")
    return ok("port", f"{host} port {number} is free")
