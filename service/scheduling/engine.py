"""What scheduling needs of whoever computes logits."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.engine.session_key import SessionKey
from noisevote.engine.trial import Trial, TrialLimits
from noisevote.model_store.manifest import Manifest


class Engine(Protocol):
    """Computes logits. `run` is called from several threads at once."""

    @property
    def description(self) -> str:
        """In a few words, for the line at start."""

    @property
    def build(self) -> str:
        """What computes, to the bit: files that passed their trial, and their times, are known of this build alone."""

    def load(self, key: SessionKey, manifest: Manifest, content: bytes, *, tried: bool = False) -> None:
        """Make a session of an ONNX file and run it a few times, which is left out where a `trial` let it pass.

        Raises:
            BadModelError: it is not a file that this engine can serve as the manifest describes it.
        """

    def trial(self, limits: TrialLimits) -> Trial:
        """Somewhere to load and run files before they are loaded here, so that none that hangs or crashes is."""

    def tidy(self) -> None:
        """Give back what memory loading and timing took, beyond what sessions need."""

    def unload(self, key: SessionKey) -> None:
        """Let go of a session; unknown ones are no error."""

    def run(self, key: SessionKey, feeds: Feeds) -> NDArray[np.float32]:
        """Logits float32 [rows, classes]; a row depends on nothing but itself and its input."""
