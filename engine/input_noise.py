"""Whether a file's noise is what a certificate rests on: one draw added to the input, and no other."""

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.errors import BadModelError
from noisevote.engine.feeds import Feeds
from noisevote.model_store.manifest import InputSpec
from noisevote.noise_op.contract import sigma_row
from noisevote.noise_op.reference import normals

SITE: Final = 0
VOTES: Final = 4
SEED: Final = 20190529
# Far above what float32 rounds on the way through a network, far below what another noise would change.
TOLERANCE: Final = 1e-3


class Runs(Protocol):
    """Computes logits."""

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Logits float32 [rows, classes]."""


def refuse_other_noise(session: Runs, spec: InputSpec, sigma: float) -> None:
    """Compare votes with those on inputs to which the same noise was added beforehand, without noise in the network.

    Args:
        session: the file.
        spec: what it takes.
        sigma: standard deviation of the additive noise that it certifies under.

    Raises:
        BadModelError: they differ: the file has noise elsewhere, another kind of it, or none.
    """
    low, high = spec.value_range
    plain = np.linspace(low, high, int(np.prod(spec.shape)), dtype=np.float32)
    noise = np.stack([normals(SEED, vote, SITE, 0, plain.size) for vote in range(VOTES)])
    noisy = (plain + np.float32(sigma) * noise).astype(np.float32)
    inside = session.run(_feeds(plain.reshape(1, *spec.shape), np.zeros(VOTES, np.int64), sigma))
    before = session.run(_feeds(noisy.reshape(VOTES, *spec.shape), np.arange(VOTES), 0.0))
    worst = float(np.abs(inside - before).max())
    scale = max(1.0, float(np.abs(before).max()))
    if not worst <= TOLERANCE * scale:
        problem = f"its votes differ by {worst:.3g} from those on inputs with noise of {sigma} added beforehand"
        raise BadModelError(f"certifies: {sigma}, but its noise is not additive at the input alone: {problem}")


def _feeds(inputs: NDArray[np.float32], row: NDArray[np.int64], sigma: float) -> Feeds:
    """Votes 0 … VOTES − 1, each of the input that `row` names."""
    rows = np.tile(np.array(sigma_row("additive", sigma), np.float32), (VOTES, 1))
    return Feeds(inputs, rows, np.full(VOTES, SEED, np.int64), np.arange(VOTES, dtype=np.int64), row)
