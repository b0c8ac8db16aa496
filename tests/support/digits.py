"""The digits that are kept with the tests."""

from functools import cache
from pathlib import Path

import numpy as np

from noisevote.evaluation.examples import Examples
from noisevote.training.data.strokes import POINTS, of_one_length, pen_points

DATA = Path(__file__).parents[1] / "data"
DIGITS = DATA / "mnist_digits.npz"


@cache
def stored_digits() -> Examples:
    """64 test digits of MNIST, uint8 [64, 1, 28, 28]."""
    with np.load(DIGITS) as stored:
        return Examples(stored["images"][:, np.newaxis], stored["labels"])


@cache
def stored_strokes() -> Examples:
    """The pen points of the same digits, float32 [64, 56, 2]."""
    with np.load(DATA / "mnist_strokes.npz") as stored:
        moves = np.stack((stored["dx"], stored["dy"]), axis=1).astype(np.int64)
        points, starts = pen_points(moves, stored["offsets"].astype(np.int64))
        return Examples(of_one_length(points, starts, POINTS), stored["labels"])
