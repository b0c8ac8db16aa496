"""MNIST as pen strokes (Edwin de Jong 2016, "MNIST digits stroke sequence data"), in MNIST's order.

Read from `mnist_strokes.npz`, the sequences of the original 140,000 text files as a few arrays: for part = train
and test, `<part>_dx`, `<part>_dy` int8 and `<part>_eos` uint8 hold the rows of all sequences one after another,
`<part>_offsets` int32 [n + 1] where each begins, `<part>_labels` uint8 [n]. A row is a movement of the pen; the
first row of a sequence is its absolute start, column and row counted from 1; y points down.
"""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.evaluation.examples import Examples
from noisevote.training.data.data_set import DataSet
from noisevote.training.data.files import DataSource, MissingDataError, verified

FOLDER: Final = "mnist_strokes"
FILE: Final = "mnist_strokes.npz"
SHA256: Final = "8f72f395b266e337c090e4bb262c97aa9498fe2821142fbf76f7701d79d03e53"
ORIGINAL: Final = "https://github.com/edwin-de-jong/mnist-digits-stroke-sequence-data"
NAMES: Final = ("dx", "dy", "offsets", "labels")  # of the arrays that are read
SIDE: Final = 28  # pixels of the image that the pen moves over

# Of the training sequences 3.9 % are longer and are cut; 48 points would cut 17.5 %, 60 points 1.5 %.
POINTS: Final = 56


def load(source: DataSource) -> DataSet:
    """60,000 + 10,000 sequences, inputs float32 [n, 56, 2] of pixels [x, y] in 0 … 27; see `registry.load` for errors.

    Nobody offers this form for download, so it must lie in the folder that NOISEVOTE_DATA names, or in the cache.
    """
    if source.find(FOLDER, FILE) is None and not source.mirrors:
        places = [str(folder) for folder in source.folders(FOLDER)]
        raise MissingDataError(FILE, [*places, f"no mirror, as there is none of this form of {ORIGINAL}"])
    content = source.read(FOLDER, FILE, lambda packed, place: verified(packed, place, SHA256, "sha256"), ())
    with np.load(io.BytesIO(content)) as arrays:
        train, test = (_examples({name: arrays[f"{part}_{name}"] for name in NAMES}) for part in ("train", "test"))
    return DataSet("mnist-strokes", train, test, tuple("0123456789"), {FILE: f"sha256:{SHA256}"})


def _examples(part: dict[str, NDArray[np.generic]]) -> Examples:
    moves = np.stack((part["dx"], part["dy"]), axis=1).astype(np.int64)
    points, starts = pen_points(moves, part["offsets"].astype(np.int64))
    return Examples(of_one_length(points, starts, POINTS), part["labels"].astype(np.uint8))


def pen_points(moves: NDArray[np.int64], offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pixels that the pen passes, counted from 0.

    The file marks the end of a stroke by a row that moves nothing. It is left out: the jump that follows shows it too.

    Args:
        moves: rows of all sequences, [rows, 2] as (dx, dy).
        offsets: first row of each sequence, and the number of rows, [n + 1].

    Returns:
        Points of all sequences [points, 2], and the offsets of the sequences among them [n + 1].
    """
    summed = np.concatenate((np.zeros((1, 2), np.int64), np.cumsum(moves, axis=0)))
    origin = np.repeat(summed[offsets[:-1]], np.diff(offsets), axis=0)
    pixels = summed[1:] - origin - 1
    kept = moves.any(axis=1)
    return pixels[kept], np.concatenate(([0], np.cumsum(kept)))[offsets]


def of_one_length(points: NDArray[np.int64], offsets: NDArray[np.int64], length: int) -> NDArray[np.float32]:
    """Each sequence cut to `length` points, or continued with its last one: float32 [n, length, 2]."""
    places = offsets[:-1, np.newaxis] + np.arange(length)
    inputs: NDArray[np.float32] = points[np.minimum(places, offsets[1:, np.newaxis] - 1)].astype(np.float32)
    return inputs
