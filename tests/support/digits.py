"""The digits that are kept with the tests."""

from functools import cache
from pathlib import Path

import numpy as np

from noisevote.evaluation.examples import Examples

DIGITS = Path(__file__).parents[1] / "data" / "mnist_digits.npz"


@cache
def stored_digits() -> Examples:
    """64 test digits of MNIST, uint8 [64, 1, 28, 28]."""
    with np.load(DIGITS) as stored:
        return Examples(stored["images"][:, np.newaxis], stored["labels"])
