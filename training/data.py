"""Labelled data sets as arrays: read from a folder, or downloaded once, and always checked by hash."""

import gzip
import hashlib
import os
import struct
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError

DATA_VARIABLE: Final = "NOISEVOTE_DATA"
DOWNLOAD_TIMEOUT_S: Final = 30.0

# MD5 of the *uncompressed* IDX files: the gzipped ones differ between mirrors, their content does not.
MNIST_MD5: Final[dict[str, str]] = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
MNIST_MIRRORS: Final[tuple[str, ...]] = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


class DataError(TrainingError):
    """A data file cannot be used."""


class MissingDataError(DataError):
    """No mirror gave the file, or the folder that was named lacks it."""

    def __init__(self, name: str, tried: list[str]) -> None:
        super().__init__(f"data file {name}: not found; tried {'; '.join(tried)}")


class CorruptDataError(DataError):
    """The file's content is not the published one."""

    def __init__(self, place: str, expected: str, found: str) -> None:
        super().__init__(f"data file {place}: md5 of the uncompressed content is {found}, expected {expected}")


@dataclass(frozen=True)
class Examples:
    """Inputs and their labels: images uint8 [n, height, width], labels uint8 [n]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def first(self, count: int) -> "Examples":
        """The first `count` examples."""
        return Examples(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class DataSet:
    """Training and test examples, and which files they are (`md5`: uncompressed file → hash)."""

    name: str
    train: Examples
    test: Examples
    classes: tuple[str, ...]
    md5: dict[str, str]


@dataclass(frozen=True)
class DataSource:
    """Where files come from: `folder` if given (nothing is downloaded then), else `cache`, filled from mirrors."""

    folder: Path | None = None
    cache: Path = Path(__file__).resolve().parent.parent / "data"
    mirrors: tuple[str, ...] = MNIST_MIRRORS

    @classmethod
    def from_environment(cls) -> "DataSource":
        """The folder in NOISEVOTE_DATA, else the repository's git-ignored `data/` and the public mirrors."""
        folder = os.environ.get(DATA_VARIABLE)
        return cls(folder=Path(folder) if folder else None)


def load(name: str, source: DataSource) -> DataSet:
    """Read a data set by name.

    Raises:
        DataError: unknown name, a file that no place has, or content that differs from the published hash.
    """
    if name not in LOADERS:
        raise DataError(f"data set {name!r}: unknown; known are {', '.join(LOADERS)}")
    return LOADERS[name](source)


def load_mnist(source: DataSource) -> DataSet:
    """MNIST (LeCun, Cortes, Burges 1998): 60,000 + 10,000 digits of 28×28; see `load` for errors."""
    content = {file: _checked_content("mnist", file, md5, source) for file, md5 in MNIST_MD5.items()}
    return DataSet(
        name="mnist",
        train=Examples(read_idx(content["train-images-idx3-ubyte"]), read_idx(content["train-labels-idx1-ubyte"])),
        test=Examples(read_idx(content["t10k-images-idx3-ubyte"]), read_idx(content["t10k-labels-idx1-ubyte"])),
        classes=tuple("0123456789"),
        md5=MNIST_MD5,
    )


LOADERS: Final[dict[str, Callable[[DataSource], DataSet]]] = {"mnist": load_mnist}


def read_idx(content: bytes) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes as an array: magic 0 0 8 rank, big-endian uint32 dimensions, then the bytes.

    Raises:
        DataError: another element type, or a length that the header does not announce.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"IDX header {content[:4].hex()}: not a file of unsigned bytes")
    rank = content[3]
    shape = struct.unpack_from(f">{rank}I", content, 4)
    start = 4 + 4 * rank
    if len(content) - start != int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"IDX shape {shape}: {len(content) - start} bytes follow the header")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()  # writable, as torch wants it


def _checked_content(data_set: str, file: str, md5: str, source: DataSource) -> bytes:
    """The uncompressed content of `<file>.gz`, whose hash is right."""
    name = f"{file}.gz"
    folders = [source.cache / data_set] if source.folder is None else [source.folder / data_set, source.folder]
    for folder in folders:
        path = folder / name
        if path.is_file():
            return _verified(path.read_bytes(), str(path), md5)
    if source.folder is not None:
        raise MissingDataError(name, [str(folder) for folder in folders])
    return _download(name, md5, source.mirrors, folders[0])


def _download(name: str, md5: str, mirrors: tuple[str, ...], folder: Path) -> bytes:
    """Fetch from the first mirror whose content is right, and keep the file in `folder`."""
    tried = []
    for mirror in mirrors:
        try:
            with urllib.request.urlopen(mirror + name, timeout=DOWNLOAD_TIMEOUT_S) as response:
                packed: bytes = response.read()
            content = _verified(packed, mirror + name, md5)
        except (OSError, CorruptDataError) as error:  # an unreachable or damaged mirror is not the last word
            tried.append(f"{mirror} ({error})")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{name}.{os.getpid()}"
        part.write_bytes(packed)
        part.replace(folder / name)
        return content
    raise MissingDataError(name, tried)


def _verified(packed: bytes, place: str, md5: str) -> bytes:
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptDataError(place, md5, f"unreadable ({error})") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise CorruptDataError(place, md5, found)
    return content
