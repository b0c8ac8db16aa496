"""An exported file measured on ONNX Runtime, as the service runs it."""

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


class OnnxRuntime:
    """Measures an exported file, an `Engine`: on the native kernel where it is built, else on the function body.

    Raises:
        EvaluationError: the file cannot be read, or is not a published graph.
    """

    name: Final = "onnxruntime"
    rows: Final = 40  # measured on mnist-cnn: from 20 to 320 rows a vote costs the same, and this needs little memory
    device: Final[Mapping[str, str]] = MappingProxyType({})  # the processor

    def __init__(self, file: Path, threads: int = 1) -> None:
        self.file = file
        try:
            self._session = load_session(file.read_bytes(), load_kernel(), threads)
        except (OSError, BadModelError) as error:
            raise EvaluationError(file, str(error)) from error

    def logits(self, feeds: Feeds) -> NDArray[np.float32]:
        """Compute logits as `Engine` says."""
        return self._session.run(feeds)
