"""CIFAR-10 (Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images") from its binary version.

Read from the original `cifar-10-binary.tar.gz` or the six `.bin` batches inside it, or from six smaller parts
`<batch>.zip`, each of which holds `labels.bin` and lossless WebP strips `000.webp`, `001.webp`, … of images
one below the other. In every form the content of each original batch file is checked.
"""

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisevote.evaluation.examples import Examples
from noisevote.training.data.data_set import DataSet
from noisevote.training.data.files import CorruptDataError, DataSource, MissingDataError, verified

# The archive's MD5 stands on the data set's home page; those of the files are of the files in that archive.
ARCHIVE: Final = "cifar-10-binary.tar.gz"
ARCHIVE_MD5: Final = "c32a1d4ab5d03f1284b67883e8d87530"
INSIDE: Final = "cifar-10-batches-bin"
MIRRORS: Final[tuple[str, ...]] = ("https://www.cs.toronto.edu/~kriz/",)
MD5: Final[dict[str, str]] = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
CLASSES: Final = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE: Final = (3, 32, 32)  # planes of red, green and blue
RECORD: Final = 1 + 3 * 32 * 32  # a label byte, then the image


def load(source: DataSource) -> DataSet:
    """50,000 + 10,000 colour images, inputs uint8 [n, 3, 32, 32]; see `registry.load` for errors."""
    *train, test = (read_batch(content) for content in _batches(source).values())  # in the order of MD5
    return DataSet(
        name="cifar10",
        train=joined(train),
        test=test,
        classes=CLASSES,
        hashes={name: f"md5:{md5}" for name, md5 in MD5.items()},
    )


def joined(parts: list[Examples]) -> Examples:
    """All examples of the parts, in order."""
    return Examples(np.concatenate([part.inputs for part in parts]), np.concatenate([part.labels for part in parts]))


def read_batch(content: bytes) -> Examples:
    """The examples of a batch file, whose records are a label byte and the 3072 bytes of an image."""
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    return Examples(records[:, 1:].reshape(-1, *SHAPE), records[:, 0].copy())


def _batches(source: DataSource) -> dict[str, bytes]:
    """The checked content of the six batch files, from files that are there or else from the archive."""
    found = {name: _find(source, name) for name in MD5}
    if any(found.values()) and (missing := [name for name, path in found.items() if path is None]):
        raise MissingDataError(f"{missing[0]} (or .zip)", [str(folder) for folder in source.folders("cifar10")])
    here = {name: path for name, path in found.items() if path}
    if not here:
        return _from_archive(source)
    return {name: verified(_content(path, MD5[name]), str(path), MD5[name]) for name, path in here.items()}


def _find(source: DataSource, name: str) -> Path | None:
    forms = (name, f"{INSIDE}/{name}", str(Path(name).with_suffix(".zip")))
    return next((path for form in forms if (path := source.find("cifar10", form))), None)


def _content(path: Path, md5: str) -> bytes:
    """The bytes of the original batch file."""
    if path.suffix != ".zip":
        return path.read_bytes()
    try:
        with zipfile.ZipFile(path) as part:
            labels = np.frombuffer(part.read("labels.bin"), np.uint8)
            strips = [_pixels(part.read(name)) for name in sorted(part.namelist()) if name.endswith(".webp")]
        images = np.concatenate(strips).reshape(len(labels), *SHAPE[1:], SHAPE[0])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise CorruptDataError(str(path), md5, f"unreadable ({error})") from error
    planes = images.transpose(0, 3, 1, 2).reshape(len(labels), -1)
    return np.concatenate([labels[:, np.newaxis], planes], axis=1).tobytes()


def _pixels(packed: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(packed)) as strip:  # UnidentifiedImageError is an OSError
        return np.asarray(strip.convert("RGB"))


def _from_archive(source: DataSource) -> dict[str, bytes]:
    packed = source.read("cifar10", ARCHIVE, lambda content, place: verified(content, place, ARCHIVE_MD5), MIRRORS)
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        return {name: verified(_member(archive, name), f"{ARCHIVE}: {name}", md5) for name, md5 in MD5.items()}


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(f"{INSIDE}/{name}")
    assert member is not None  # the archive is the published one, whose six batches are plain files
    return member.read()
