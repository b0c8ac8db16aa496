"""The protocol of everything that can be measured: it computes the logits of one file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.evaluation.results import EngineName


class Engine(Protocol):
    """Computes the logits of what a file holds."""

    @property
    def name(self) -> EngineName:
        """How it computes."""

    @property
    def rows(self) -> int:
        """How many rows at once suit it."""

    @property
    def device(self) -> Mapping[str, str]:
        """The graphics card that it computes on, as it is noted among versions (`provenance.DEVICE`); else empty."""

    @property
    def file(self) -> Path:
        """The exported file, or the weights, that it computes."""

    def logits(self, feeds: Feeds) -> NDArray[np.float32]:
        """Logits of R rows, [R, classes]."""
