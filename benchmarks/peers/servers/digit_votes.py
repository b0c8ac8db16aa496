"""What all peers share: a digit's votes by ONNX Runtime, as one writes it around a graph with RandomNormalLike.

Runs in the environment of a peer, which knows nothing of noisevote: only NumPy, Pillow and ONNX Runtime are there.
"""

import base64
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

GRAPH = "PEER_GRAPH"  # the environment variable with the path of the graph
CLASSES = 10


class Voter:
    """A session of one thread, as all of them have, so that several may run side by side."""

    def __init__(self, graph: str | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = graph or os.environ[GRAPH]
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._run([np.zeros((1, 28, 28), np.float32)], [1])

    def histograms(self, images: Sequence[Any], votes: Sequence[int]) -> list[list[int]]:
        """Votes per class of each image, all rows in one run."""
        return self._run([decoded(image) for image in images], votes)

    def histogram_by_loop(self, image: str, votes: int) -> list[int]:
        """The same of one image, a run for each vote."""
        pixels = decoded(image)
        found = np.zeros(CLASSES, np.int64)
        for _ in range(votes):
            found += self._run([pixels], [1])[0]
        return list(map(int, found))

    def _run(self, images: Sequence[Any], votes: Sequence[int]) -> list[list[int]]:
        row = np.repeat(np.arange(len(images)), votes)
        (logits,) = self._session.run(["logits"], {"input": np.stack(images), "row": row})
        classes = np.asarray(logits).argmax(axis=1)
        return [np.bincount(classes[row == i], minlength=CLASSES).tolist() for i in range(len(images))]


def decoded(image: Any) -> Any:
    """Pixels float32 [1, 28, 28] of a PNG in base64, or of bytes 0 … 255."""
    if isinstance(image, np.ndarray):
        return image.astype(np.float32) / np.float32(255)
    with Image.open(io.BytesIO(base64.b64decode(image))) as picture:
        return np.asarray(picture, np.float32)[np.newaxis] / np.float32(255)
