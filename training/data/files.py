"""Data files: found in a folder, or downloaded once into a cache, and always checked by hash."""

import gzip
import hashlib
import os
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noisevote.model_store.files import replace_file
from noisevote.training.errors import TrainingError

DATA_VARIABLE: Final = "NOISEVOTE_DATA"
DOWNLOAD_TIMEOUT_S: Final = 30.0

# From a file's bytes and the place that they came from to its unpacked content; raises CorruptDataError.
Unpack = Callable[[bytes, str], bytes]


class DataError(TrainingError):
    """A data file cannot be used."""


class MissingDataError(DataError):
    """No mirror gave the file, or the folder that was named lacks it."""

    def __init__(self, name: str, tried: list[str]) -> None:
        super().__init__(f"data file {name}: not found; tried {'; '.join(tried)}")


class CorruptDataError(DataError):
    """The file's content is not the published one."""

    def __init__(self, place: str, expected: str, found: str) -> None:
        super().__init__(f"data file {place}: hash of the uncompressed content is {found}, expected {expected}")


@dataclass(frozen=True)
class DataSource:
    """Finds data files: in `folder` if given (nothing is downloaded then), else in `cache`, filled from mirrors.

    `mirrors` replaces the addresses that a data set has of its own.
    """

    folder: Path | None = None
    cache: Path = Path(__file__).resolve().parents[2] / "data"
    mirrors: tuple[str, ...] | None = None

    @classmethod
    def from_environment(cls) -> "DataSource":
        """The folder in NOISEVOTE_DATA, else the repository's git-ignored `data/` and the public mirrors."""
        folder = os.environ.get(DATA_VARIABLE)
        return cls(folder=Path(folder) if folder else None)

    def folders(self, data_set: str) -> list[Path]:
        """List the folders that may hold the data set's files: one of its name, and the folder given itself."""
        return [self.cache / data_set] if self.folder is None else [self.folder / data_set, self.folder]

    def find(self, data_set: str, name: str) -> Path | None:
        """The file of that name, if it lies in one of `folders`."""
        paths = (folder / name for folder in self.folders(data_set))
        return next((path for path in paths if path.is_file()), None)

    def read(self, data_set: str, name: str, unpack: Unpack, mirrors: tuple[str, ...]) -> bytes:
        """The unpacked content of the file, downloaded from the data set's `mirrors` where that is allowed.

        Raises:
            MissingDataError: no place has the file.
            CorruptDataError: the file that was found is not the published one.
        """
        if path := self.find(data_set, name):
            return unpack(path.read_bytes(), str(path))
        if self.folder is not None:
            raise MissingDataError(name, [str(folder) for folder in self.folders(data_set)])
        return download(name, unpack, mirrors if self.mirrors is None else self.mirrors, self.cache / data_set)


def download(name: str, unpack: Unpack, mirrors: tuple[str, ...], folder: Path) -> bytes:
    """Fetch from the first mirror whose content is right, and keep the file in `folder`."""
    tried = []
    for mirror in mirrors:
        try:
            with urllib.request.urlopen(mirror + name, timeout=DOWNLOAD_TIMEOUT_S) as response:
                packed: bytes = response.read()
            content = unpack(packed, mirror + name)
        except (OSError, CorruptDataError) as error:  # an unreachable or damaged mirror is not the last word
            tried.append(f"{mirror} ({error})")
            continue
        keep(folder / name, packed)
        return content
    raise MissingDataError(name, tried)


def keep(path: Path, content: bytes) -> None:
    """Put a file into the cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)


def gunzipped(md5: str) -> Unpack:
    """Unpacks a gzipped file whose content has this hash."""

    def unpack(packed: bytes, place: str) -> bytes:
        try:
            content = gzip.decompress(packed)
        except (OSError, EOFError, zlib.error) as error:
            raise CorruptDataError(place, md5, f"unreadable ({error})") from error
        return verified(content, place, md5)

    return unpack


def verified(content: bytes, place: str, expected: str, algorithm: str = "md5") -> bytes:
    """The content, if it has this hash.

    Raises:
        CorruptDataError: it has another.
    """
    found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise CorruptDataError(place, expected, found)
    return content
