"""Measures how much memory batches of a file take while they are computed.

What is measured is the process, not the graph: signals that live at the same time, scratch of convolutions and of the
noise, and whatever else a run touches. ONNX Runtime tells no sizes of what lies between operators before it runs, and
its Python package no statistics of its arena.

The runs give what they took of the arena back to the system, but for its first part, a megabyte. So each begins with
the same memory, and what the process has at most is the run's. That holds where nothing else runs, as where files are
tried.
"""

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
    small, large = session.step, session.step * (TIMES if session.step == 1 else PADDED_TIMES)
    try:
        session.run(_feeds(expectation, small))  # gives back what earlier runs took
        measured = [(rows, _grown(session, expectation, rows)) for rows in (small, large)]
    except OSError:  # another system, or a container without this part of /proc
        return None
    except Exception as error:  # onnxruntime's exceptions share no base but this
        raise BadModelError(f"a batch of {large} rows cannot be computed", str(error)) from error
    return Footprint.through(measured[0], measured[1], session.step)


def _grown(session: Releasing, expectation: Expectation, rows: int) -> int:
    """Bytes by which this process is larger at most while it computes a batch than just before."""
    give_back()
    _CLEAR.write_text("5")
    before = _resident("VmRSS")
    session.run(_feeds(expectation, rows))
    return max(0, _resident("VmHWM") - before)


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
