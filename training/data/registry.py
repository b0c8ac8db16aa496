"""Data sets by name."""

from collections.abc import Callable
from typing import Final

from noisevote.training.data import cifar10, mnist, strokes
from noisevote.training.data.data_set import DataSet
from noisevote.training.data.files import DataError, DataSource

LOADERS: Final[dict[str, Callable[[DataSource], DataSet]]] = {
    "mnist": mnist.load,
    "cifar10": cifar10.load,
    "mnist-strokes": strokes.load,
}


def load(name: str, source: DataSource) -> DataSet:
    """Read a data set by name.

    Raises:
        DataError: unknown name, a file that no place has, or content that differs from the published hash.
    """
    if name not in LOADERS:
        raise DataError(f"data set {name!r}: unknown; known are {', '.join(LOADERS)}")
    return LOADERS[name](source)
