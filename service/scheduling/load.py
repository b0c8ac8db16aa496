"""What waits and runs at a moment."""

from typing import NamedTuple


class Load(NamedTuple):
    """Requests that are not over, their uncounted rows and their bytes, the limits of both, and workers."""

    requests: int
    rows: int
    rows_limit: int
    bytes: int
    bytes_limit: int
    workers: int
    workers_busy: int
