"""Measures how much memory batches of a file take while they are computed.

What is measured is the process, not the graph: signals that live at the same time, scratch of convolutions and of the
noise, and whatever else a run touches. ONNX Runtime tells no sizes of what lies between operators before it runs, and
its Python package no statistics of its arena.

The runs give what they took of the arena back to the system, but for its first part, a megabyte. So each begins with
the same memory, and what the process has at most is the run's. That holds where nothing else runs, as where files are
tried. What fits into the first part is not seen, so batches grow until they take several times as much.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.errors import BadModelError
from noisevote.engine.feeds import Feeds
from noisevote.engine.footprint import Footprint
from noisevote.engine.free_memory import give_back
from noisevote.engine.trial import Expectation

# The larger of two batches has so many times the rows of the smaller: what both have in common cancels out.
TIMES: Final = 4
PADDED_TIMES: Final = 2
# Batches grow until one takes so many bytes, beside which the arena's first part is small; but to no more rows, and not
# where one took longer. The last one is made only as large as it has to be.
SEEN_BYTES: Final = 8 * 2**20
LEAST_TIMES: Final = 2
MOST_ROWS: Final = 256
LONGEST_S: Final = 0.1
SIGMA: Final = 0.5
_STATUS: Final = Path("/proc/self/status")
# Linux: writing 5 sets the largest resident memory back to the present one (proc(5)).
_CLEAR: Final = Path("/proc/self/clear_refs")


class Releasing(Protocol):
    """A session whose runs leave nothing behind."""

    @property
    def step(self) -> int:
        """Rows are computed in multiples of so many."""

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Logits; what the run took of the arena goes back to the system."""


def weigh(session: Releasing, expectation: Expectation) -> Footprint | None:
    """Measure batches of two sizes, each row with noise and an input of its own; None where the system cannot tell.

    Raises:
        BadModelError: a run fails.
    """
    rows = session.step * (TIMES if session.step == 1 else PADDED_TIMES)
    try:
        session.run(_feeds(expectation, session.step))  # gives back what earlier runs took
        small, large = (_measured(session, expectation, each) for each in (session.step, rows))
        while large.taken < SEEN_BYTES and large.seconds < LONGEST_S and rows < MOST_ROWS:
            rows *= _times(large.taken)
            small, large = large, _measured(session, expectation, rows)
    except OSError:  # another system, or a container without this part of /proc
        return None
    except Exception as error:  # onnxruntime's exceptions share no base but this
        raise BadModelError(f"a batch of {rows} rows cannot be computed", str(error)) from error
    return Footprint.through((small.rows, small.taken), (large.rows, large.taken), session.step)


def _times(taken: int) -> int:
    """How many times as large as one that took so many bytes the next batch has to be to be seen."""
    return min(TIMES, max(LEAST_TIMES, SEEN_BYTES // max(1, taken) + 1))


@dataclass(frozen=True)
class _Batch:
    """A batch that was computed: its rows, the bytes by which the process was larger meanwhile, and its seconds."""

    rows: int
    taken: int
    seconds: float


def _measured(session: Releasing, expectation: Expectation, rows: int) -> _Batch:
    """Bytes by which this process is larger at most while it computes a batch than just before."""
    give_back()
    _CLEAR.write_text("5")
    before, began = _resident("VmRSS"), time.perf_counter()
    session.run(_feeds(expectation, rows))
    return _Batch(rows, max(0, _resident("VmHWM") - before), time.perf_counter() - began)


def _resident(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise OSError(f"{_STATUS}: no {name}")


def _feeds(expectation: Expectation, rows: int) -> Feeds:
    middle = expectation.low / 2 + expectation.high / 2
    numbers = np.arange(rows, dtype=np.int64)
    inputs = np.full((rows, *expectation.shape), middle, np.float32)
    return Feeds(inputs, np.full((rows, 2), SIGMA, np.float32), numbers, numbers, numbers)
