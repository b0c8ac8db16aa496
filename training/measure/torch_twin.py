"""The weights of a run measured by torch, on a graphics card too.

Torch and ONNX Runtime draw the same noise for the same (seed, vote), so their votes differ only where rounding decides.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.networks.layers import fold
from noisevote.training.runs.provenance import described
from noisevote.training.runs.run_folder import RunFolder


class TorchTwin:
    """Measures a finished run's weights in float32, an `Engine`; batch norms are folded as in the exported file."""

    name: Final = "torch"
    rows: Final = 4000  # fills a large graphics card; DenseNet-40 then takes some gigabytes of its memory

    def __init__(self, folder: RunFolder, device: torch.device) -> None:
        self.file = folder.weights
        self.device = described(device)
        self._device = device
        self._network = fold(folder.read_network()).to(device)
        torch.backends.cudnn.benchmark = True  # all runs but the last have the same shape
        torch.backends.cudnn.allow_tf32 = False  # products of 10 bits would turn some votes over

    @torch.no_grad()
    def logits(self, feeds: Feeds) -> NDArray[np.float32]:
        """Compute logits as `evaluation.engine.Engine` says."""
        x, sigma, seed, vote, row = (
            torch.from_numpy(array).to(self._device)
            for array in (feeds.input, feeds.sigma, feeds.seed, feeds.vote, feeds.row)
        )
        with drawing(Draws(sigma, seed, vote, row)):
            found = self._network(x)
        return np.asarray(found.cpu().numpy())
