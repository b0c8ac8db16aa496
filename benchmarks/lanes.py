"""How to use several CPUs: batches side by side on one thread each, or one batch cut between threads.

The service runs the first way (service/engine.py says why); this is where that is measured.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.graphs import feeds, running, session_of
from benchmarks.timing import in_turns
from noisevote.noise_op.library import Kernel

BATCHES = 16  # a round's work: enough that the lanes' start and end do not count
ROUNDS = 12
ROWS = (4, 8, 16, 32)


def measure(file: bytes, kernel: Kernel, threads: int) -> dict[str, float]:
    """Votes per second of each way and batch size."""
    alone = session_of(file, 1, kernel)
    together = session_of(file, threads, kernel)
    contenders: dict[str, Callable[[], object]] = {}
    rows_of: dict[str, int] = {}
    with ThreadPoolExecutor(threads) as lanes:
        for rows in ROWS:
            batch = feeds(alone, 1, rows)
            side_by_side = f"{threads} batches of {rows} rows side by side, one thread each"
            contenders[side_by_side] = _mapping(lanes, running(alone, batch))
            one_by_one = f"one batch of {rows} rows on {threads} threads"
            contenders[one_by_one] = _repeating(running(together, batch))
            rows_of |= {side_by_side: rows, one_by_one: rows}
        timings = in_turns(contenders, ROUNDS)
    return {f"{name} (votes/s)": BATCHES * rows_of[name] / timings.median(name) for name in contenders}


def _mapping(lanes: ThreadPoolExecutor, run: Callable[[], object]) -> Callable[[], object]:
    return lambda: list(lanes.map(lambda _: run(), range(BATCHES)))


def _repeating(run: Callable[[], object]) -> Callable[[], object]:
    return lambda: [run() for _ in range(BATCHES)]
