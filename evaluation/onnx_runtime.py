"""An exported file measured on ONNX Runtime, as the service runs it."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.errors import BadModelError
from noisevote.engine.feeds import Feeds
from noisevote.engine.session import load_session
from noisevote.evaluation.results import EvaluationError
from noisevote.noise_op.library import load_kernel

ROWS: Final = 40  # measured on mnist-cnn: from 20 to 320 rows a vote costs the same, and this needs little memory
# Networks of large images hold as many bytes for each noise sample of a row; a run shall not hold more than the other.
BYTES_PER_SAMPLE: Final = 16
MOST_BYTES: Final = 2**28


def usable_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OnnxRuntime:
    """Measures an exported file, an `Engine`: on the native kernel where it is built, else on the function body.

    Args:
        file: the file.
        threads: of each run.
        samples: noise samples of one vote, by which the rows of a run are bounded; None: as of a small network.
        rows_per_run: see `engine.session.Session`.

    Raises:
        EvaluationError: the file cannot be read, or is not a published graph.
    """

    name: Final = "onnxruntime"
    device: Final[Mapping[str, str]] = MappingProxyType({})  # the processor

    def __init__(
        self, file: Path, threads: int = 1, *, samples: int | None = None, rows_per_run: int | None = None
    ) -> None:
        self.file = file
        self.rows = ROWS if samples is None else max(1, min(ROWS, MOST_BYTES // (BYTES_PER_SAMPLE * samples)))
        try:
            self._session = load_session(file.read_bytes(), load_kernel(), threads, rows_per_run)
        except (OSError, BadModelError) as error:
            raise EvaluationError(file, str(error)) from error

    def logits(self, feeds: Feeds) -> NDArray[np.float32]:
        """Compute logits as `Engine` says."""
        return self._session.run(feeds)
