"""What computes votes to be measured: ONNX Runtime as the service does, or the torch twin, on a graphics card too.

Both draw the same noise for the same (seed, vote), so their votes differ only where rounding decides.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from noisevote.noise_op.library import load_kernel
from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.networks.layers import fold
from noisevote.training.runs.run_folder import RunFolder

Logits = NDArray[np.float32]
EngineName = Literal["onnxruntime", "torch"]


@dataclass(frozen=True)
class Rows:
    """What R votes draw with: sigma [R, 2], multiplicative and additive; seed, vote and row, the input of each, [R]."""

    sigma: NDArray[np.float32]
    seed: NDArray[np.int64]
    vote: NDArray[np.int64]
    row: NDArray[np.int64]


class Engine(Protocol):
    """Computes the votes of what a file holds."""

    @property
    def name(self) -> EngineName:
        """How it computes."""

    @property
    def rows(self) -> int:
        """How many rows at once suit it."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def file(self) -> Path:
        """What it computes: an exported file, or weights."""

    def logits(self, inputs: NDArray[np.float32], rows: Rows) -> Logits:
        """Logits of R votes, [R, classes], of inputs [N, *input_shape]."""


class OnnxRuntime:
    """An exported file, as the service runs it."""

    name: Final = "onnxruntime"
    rows: Final = 40  # measured on mnist-cnn: from 20 to 320 rows a vote costs the same, and this needs little memory
    device: Final = torch.device("cpu")

    def __init__(self, file: Path, threads: int) -> None:
        self.file = file
        self._session = open_session(file, threads)

    def logits(self, inputs: NDArray[np.float32], rows: Rows) -> Logits:
        """See `Engine`."""
        (found,) = self._session.run(None, {"input": inputs, **vars(rows)})
        return np.asarray(found)


class TorchTwin:
    """The weights of a finished run in float32, batch norms folded as in the exported file."""

    name: Final = "torch"
    rows: Final = 4000  # fills a large graphics card; DenseNet-40 then takes some gigabytes of its memory

    def __init__(self, folder: RunFolder, device: torch.device) -> None:
        self.file = folder.weights
        self.device = device
        self._network = fold(folder.read_network()).to(device)
        torch.backends.cudnn.benchmark = True  # all runs but the last have the same shape
        torch.backends.cudnn.allow_tf32 = False  # products of 10 bits would turn some votes over

    @torch.no_grad()
    def logits(self, inputs: NDArray[np.float32], rows: Rows) -> Logits:
        """See `Engine`."""
        x, sigma, seed, vote, row = (
            torch.from_numpy(array).to(self.device) for array in (inputs, rows.sigma, rows.seed, rows.vote, rows.row)
        )
        with drawing(Draws(sigma, seed, vote, row)):
            found = self._network(x)
        return np.asarray(found.cpu().numpy())


def open_session(file: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session on the native kernel where it is built, else on the function body."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if kernel := load_kernel():
        kernel.register(options)
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
