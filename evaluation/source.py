"""What a published file must equal without noise: the network that it was made of."""

from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from noisevote.evaluation.gate_report import GateError
from noisevote.noise_op import onnx_probes
from noisevote.noise_op.onnx_injection import SourceEnds


class Source(Protocol):
    """Computes what a file was made of, without noise."""

    def logits(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [n, classes] of inputs [n, *shape] as the published file takes them."""

    def exact_logits(self, inputs: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """The same computed in float64; None where that cannot be done."""


class OnnxSource:
    """A foreign ONNX file, in ONNX Runtime as it is, but for the softmax at its end.

    Args:
        content: the bytes of the file.
        ends: how its ends belong to those of the published file.
    """

    def __init__(self, content: bytes, ends: SourceEnds) -> None:
        self._model = onnx_probes.read(content)
        self._ends = ends
        before_head = onnx_probes.with_output(self._model, ends.logits)
        if before_head is None:
            raise GateError("source", f"tensor {ends.logits!r} of the logits is not in the given file")
        self._session = onnxruntime.InferenceSession(before_head, _quietly(), providers=["CPUExecutionProvider"])

    def logits(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Source.logits`; in batches of one where the file fixes that size."""
        feeds = self._own_form(inputs)
        size = self._session.get_inputs()[0].shape[0]
        step = size if isinstance(size, int) and size > 0 else len(feeds)
        parts = [feeds[start : start + step] for start in range(0, len(feeds), step)]
        return self._rows([self._session.run(None, {self._ends.input: part})[0] for part in parts], len(inputs))

    def exact_logits(self, inputs: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """See `Source.exact_logits`; by onnx's own reference, which is slow."""
        found = onnx_probes.in_float64(self._model, self._ends.logits, self._own_form(inputs), self._ends.input)
        return None if found is None else np.asarray(self._rows([found], len(inputs)), np.float64)

    def _own_form(self, inputs: NDArray[np.float32]) -> NDArray[Any]:
        given = inputs.transpose(0, 2, 3, 1) if self._ends.channels_last else inputs
        return given.astype(self._ends.dtype)

    def _rows(self, found: list[NDArray[Any]], rows: int) -> NDArray[Any]:
        logits = np.concatenate(found)
        if logits.size % rows or len(logits) != rows:
            raise GateError("source", f"{rows} inputs give an output of shape {list(logits.shape)}")
        flat = logits.reshape(rows, -1)
        return np.concatenate([np.zeros_like(flat), flat], axis=1) if self._ends.head == "sigmoid" else flat


def _quietly() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return options
