"""Runs a file a few times as the service will: what does not keep a graph's contract shows here, not to a client."""

import math
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.errors import BadModelError
from noisevote.engine.feeds import Feeds
from noisevote.engine.trial import Expectation

# Rows of the run with several inputs: more rows than inputs, and in no order. The last ones are noisy.
ROWS: Final = (0, 2, 1, 0, 2)
NOISY: Final = 2
NOISE: Final = 0.5
# Of the largest logit, how far equal rows may lie apart: batches of other sizes are rounded otherwise.
TOLERANCE: Final = 1e-3


class Runs(Protocol):
    """A session."""

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Logits of the rows."""


def check_runs(session: Runs, expectation: Expectation) -> None:
    """Run one input in one row, then three inputs in five rows, of which two are noisy.

    Raises:
        BadModelError: a run fails, or its logits have another shape than one per row and class, are not finite
            without noise, or depend on other rows than their own.
    """
    inputs = _inputs(expectation)
    alone = _logits(session, expectation, inputs[-1:], (0,))
    together = _logits(session, expectation, inputs, ROWS)
    quiet = np.concatenate([alone, together[: len(ROWS) - NOISY]])
    if not np.isfinite(quiet).all():
        raise BadModelError("its outputs are not finite even without noise")
    scale = max(float(np.abs(quiet).max()), float(np.finfo(np.float32).tiny))
    if np.abs(together[ROWS.index(len(inputs) - 1)] - alone[0]).max() > TOLERANCE * scale:
        raise BadModelError("without noise, an input's logits depend on the rows or inputs beside it")


def warm_up(session: Runs, expectation: Expectation) -> None:
    """Run one row, so that the first request waits for no memory to be made ready."""
    _logits(session, expectation, _inputs(expectation)[:1], (0,))


def _inputs(expectation: Expectation) -> NDArray[np.float32]:
    """One input at the dark end of the value range, one in its middle, and one that goes through all of it."""
    low, high = expectation.low, expectation.high
    if max(abs(low), abs(high)) > np.finfo(np.float32).max:
        raise BadModelError(f"value_range: [{low}, {high}] is beyond what float32 holds")
    ramp = np.linspace(low, high, math.prod(expectation.shape), dtype=np.float32).reshape(expectation.shape)
    return np.stack([np.full_like(ramp, low), np.full_like(ramp, low / 2 + high / 2), ramp])


def _logits(
    session: Runs, expectation: Expectation, inputs: NDArray[np.float32], row: tuple[int, ...]
) -> NDArray[np.float32]:
    """Logits of rows that read these inputs; the last ones, where there are several, with noise."""
    rows = len(row)
    sigma = np.zeros((rows, 2), np.float32)
    sigma[max(1, rows - NOISY) :] = NOISE
    vote = np.arange(rows, dtype=np.int64)
    ran = f"a run of {rows} rows on {len(inputs)} inputs of shape {list(expectation.shape)}"
    try:
        logits = session.run(Feeds(inputs, sigma, vote + 1, vote, np.array(row, np.int64)))
    except Exception as error:  # onnxruntime's exceptions share no base but this
        raise BadModelError(f"{ran} fails", str(error)) from error
    expected = (rows, expectation.classes)
    if logits.shape != expected or logits.dtype != np.float32:
        found = f"{logits.dtype} of shape {list(logits.shape)}"
        raise BadModelError(f"{ran} gives logits {found}, expected float32 of shape {list(expected)}")
    return logits
