"""How many files the process may open, of which each connection is one."""

import os
import resource
from typing import Final

# For models that are read, the reading process, and whatever libraries open.
KEPT: Final = 48


def raise_limit() -> int:
    """Allow as many open files as the system permits without asking; returns how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard


def left_for_connections(limit: int) -> int:
    """How many connections may be open beside what is open now, if the process may open `limit` files."""
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:
        used = KEPT
    return max(1, limit - used - KEPT)
