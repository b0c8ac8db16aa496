"""The gate of publishing for networks in torch: the exported file against the network that it was made of."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.evaluation.gate import Candidate, examine
from noisevote.evaluation.gate_report import GateError, GateReport
from noisevote.model_store.manifest import InputSpec
from noisevote.training.errors import TrainingError


class RefusedFileError(TrainingError):
    """The gate refuses an exported file; the message has the number and the place."""

    def __init__(self, file: Path, error: GateError) -> None:
        super().__init__(f"{file.name} is not published: {error}")


class TorchSource:
    """A network in torch, which computes the logits of a published graph's feeds: `evaluation.source.Source`."""

    def __init__(self, logits: Callable[[Feeds], NDArray[np.float32]]) -> None:
        self._logits = logits

    def logits(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Without noise; see `Source.logits`."""
        row = np.arange(len(inputs), dtype=np.int64)
        return self._logits(Feeds(inputs, np.zeros((len(row), 2), np.float32), row, row, row))

    def exact_logits(self, inputs: NDArray[np.float32]) -> NDArray[np.float64] | None:  # noqa: ARG002  # the protocol's
        """None: the sites of a network in torch compute in float32."""
        return None


def pass_gate(
    file: Path,
    spec: InputSpec,
    classes: int,
    logits: Callable[[Feeds], NDArray[np.float32]],
    examples: NDArray[np.float32],
    digital: Collection[str] | None,
) -> GateReport:
    """What the gate found of an exported file; see `examine`.

    Args:
        file: exported.
        spec: what it takes.
        classes: how many it tells apart.
        logits: computes the network in torch.
        examples: real inputs.
        digital: names of products without noise, as the file calls them; None: they are not looked for.

    Raises:
        RefusedFileError: it may not be published.
    """
    candidate = Candidate(file.read_bytes(), spec, classes, TorchSource(logits), digital)
    try:
        return examine(candidate, examples)
    except GateError as error:
        raise RefusedFileError(file, error) from error
