import gzip
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from noisevote.evaluation.examples import Examples
from noisevote.training.data import files, mnist, registry
from noisevote.training.data.files import CorruptDataError, DataError, DataSource, MissingDataError


def idx(array: NDArray[Any]) -> bytes:
    """The array as an IDX file."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def published(digits: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror of a tiny MNIST whose hashes are the published ones."""
    content = {name: idx(digits.inputs[:, 0] if "images" in name else digits.labels) for name in mnist.MD5}
    monkeypatch.setattr(mnist, "MD5", {name: hashlib.md5(raw).hexdigest() for name, raw in content.items()})
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name, raw in content.items():
        (mirror / f"{name}.gz").write_bytes(gzip.compress(raw))
    return mirror


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=4, max_side=5)))
def test_idx_keeps_shape_and_bytes(array: NDArray[np.uint8]) -> None:
    """An IDX file of any rank reads as the array that was written."""
    assert np.array_equal(mnist.read_idx(idx(array)), array)


@given(st.integers(1, 60))
def test_idx_of_another_length_is_refused(cut: int) -> None:
    """A file that is shorter than its header announces is never read as a smaller array."""
    with pytest.raises(DataError):
        mnist.read_idx(idx(np.zeros((3, 4, 5), np.uint8))[:-cut])


@pytest.mark.parametrize("inside", [".", "mnist"])
def test_folder_holds_the_files_directly_or_in_mnist(
    published: Path, tmp_path: Path, digits: Examples, inside: str
) -> None:
    """NOISEVOTE_DATA may name the folder of the files or the one above it."""
    folder = tmp_path / "given"
    (folder / inside).parent.mkdir(parents=True, exist_ok=True)
    if inside == ".":
        published.rename(folder)
    else:
        published.rename(folder / inside)
    loaded = registry.load("mnist", DataSource(folder=folder))
    assert np.array_equal(loaded.train.inputs, digits.inputs)
    assert np.array_equal(loaded.test.labels, digits.labels)


def test_corrupt_file_is_refused_by_name_and_hash(published: Path) -> None:
    """One changed byte is an error that names the file, the hash it has and the hash it should have."""
    path = published / "train-labels-idx1-ubyte.gz"
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(CorruptDataError) as caught:
        registry.load("mnist", DataSource(folder=published))
    message = str(caught.value)
    assert str(path) in message
    assert hashlib.md5(raw).hexdigest() in message
    assert mnist.MD5["train-labels-idx1-ubyte"] in message


def test_cut_gzip_is_refused(published: Path) -> None:
    """A download that broke off is a corrupt file, not a crash in the unpacker."""
    path = published / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptDataError, match="train-images"):
        registry.load("mnist", DataSource(folder=published))


def test_named_folder_is_never_filled_from_mirrors(published: Path, tmp_path: Path) -> None:
    """A folder that was named and lacks a file is an error that lists where it was looked for."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(MissingDataError, match=str(empty)):
        registry.load("mnist", DataSource(folder=empty, mirrors=(f"{published.as_uri()}/",)))
    assert list(empty.iterdir()) == []


def test_download_passes_over_bad_mirrors_and_is_kept(published: Path, tmp_path: Path, digits: Examples) -> None:
    """A missing and a damaged mirror are passed over; what a good one gave is read from the cache next time."""
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in published.iterdir():
        (damaged / file.name).write_bytes(gzip.compress(b"not this"))
    mirrors = tuple(f"{folder.as_uri()}/" for folder in (tmp_path / "missing", damaged, published))
    cache = tmp_path / "cache"
    loaded = registry.load("mnist", DataSource(cache=cache, mirrors=mirrors))
    assert np.array_equal(loaded.test.inputs, digits.inputs)
    again = registry.load("mnist", DataSource(cache=cache, mirrors=()))
    assert np.array_equal(again.train.labels, digits.labels)


def test_no_good_mirror_leaves_no_file(published: Path, tmp_path: Path) -> None:
    """When every mirror fails the error lists them, and the cache holds nothing that looks like data."""
    mirror = f"{(tmp_path / 'missing').as_uri()}/"
    with pytest.raises(MissingDataError, match=mirror):
        registry.load("mnist", DataSource(cache=tmp_path / "cache", mirrors=(mirror,)))
    assert not (tmp_path / "cache").exists()


def test_unknown_data_set_names_the_known_ones() -> None:
    """A misspelt data set is answered with the names that exist."""
    with pytest.raises(DataError, match=r"'mnst'.*mnist"):
        registry.load("mnst", DataSource())


def test_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NOISEVOTE_DATA decides the folder; without it, or empty, there is none."""
    monkeypatch.setenv(files.DATA_VARIABLE, str(tmp_path))
    assert DataSource.from_environment().folder == tmp_path
    monkeypatch.setenv(files.DATA_VARIABLE, "")
    assert DataSource.from_environment().folder is None
