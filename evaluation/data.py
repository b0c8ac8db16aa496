"""One's own labelled data: a folder of class folders with images, an .npz file, or MNIST's idx files."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from noisevote.engine.preprocessing import UnfitImageError, preprocessed
from noisevote.evaluation.examples import Examples, Labelled
from noisevote.model_store.manifest import InputSpec

PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
MODES: Final = {1: "L", 3: "RGB"}
IDX: Final = "-images-idx3-ubyte"
# Of MNIST's files the test's are meant where they are there.
IDX_PARTS: Final = ("t10k", "train")
IDX_TYPES: Final = {8: np.dtype(np.uint8)}


class DataError(Exception):
    """Data cannot be read, or do not fit the model; the message names the place."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files with their labels, read whenever they are needed: `Labelled`."""

    files: tuple[Path, ...]
    labels: NDArray[np.int64]
    spec: InputSpec

    def __len__(self) -> int:
        return len(self.files)

    def values(self, chosen: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Labelled.values`.

        Raises:
            DataError: an image cannot be read, or is of another size and no preprocessing is declared.
        """
        places = np.arange(len(self))[chosen]
        return np.stack([read_image(self.files[place], self.spec) for place in places])

    def some(self, chosen: NDArray[np.int64]) -> "ImageFiles":
        """See `Labelled.some`."""
        return replace(self, files=tuple(self.files[place] for place in chosen), labels=self.labels[chosen])


def read_data(place: Path, spec: InputSpec, classes: Sequence[str]) -> Labelled:
    """Labelled inputs of a model.

    Args:
        place: a folder with a folder for each class, named as the class or by its number; an .npz file with the arrays
            `inputs` and `labels`; or a folder with MNIST's idx files.
        spec: what the model takes.
        classes: names of the classes.

    Raises:
        DataError: it is none of these, or does not fit.
    """
    if place.suffix == ".npz":
        return _read_npz(place, spec, classes)
    if not place.is_dir():
        raise DataError(f"{place}: is no folder and no .npz file")
    for part in IDX_PARTS:
        images = [place / f"{part}{IDX}{end}" for end in ("", ".gz")]
        found = next((each for each in images if each.exists()), None)
        if found is not None:
            labels = found.with_name(found.name.replace("images-idx3", "labels-idx1"))
            return _fitted(place, _read_idx(found), _read_idx(labels), spec, classes)
    return _read_folders(place, spec, classes)


def picked(examples: Labelled, count: int | None, seed: int) -> Labelled:
    """So many of the examples, drawn without return and in their order; all of them where that is as many."""
    if count is None or count >= len(examples):
        return examples
    return examples.some(np.sort(np.random.default_rng(seed).choice(len(examples), count, replace=False)))


def read_image(file: Path, spec: InputSpec) -> NDArray[np.float32]:
    """An image file as an input: as the manifest declares, or of exactly the model's size.

    Raises:
        DataError: it cannot be read or does not fit.
    """
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened).convert(MODES[spec.shape[0]])
            samples = np.asarray(image).reshape(image.height, image.width, -1)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: is no image that can be read ({error})") from error
    if spec.preprocess is not None:
        try:
            return preprocessed(samples, spec)
        except UnfitImageError as error:
            raise DataError(f"{file}: {error}") from error
    if samples.shape[:2] != spec.shape[1:]:
        size = f"{samples.shape[1]}×{samples.shape[0]}"
        raise DataError(
            f"{file}: is {size} pixels, the model takes {spec.shape[2]}×{spec.shape[1]} and declares no preprocessing"
        )
    return _on_range(np.moveaxis(samples, 2, 0), spec)


def _read_folders(place: Path, spec: InputSpec, classes: Sequence[str]) -> ImageFiles:
    if len(spec.shape) != 3 or spec.shape[0] not in MODES:
        raise DataError(f"{place}: inputs of shape {list(spec.shape)} are no images; give an .npz file")
    folders = sorted(each for each in place.iterdir() if each.is_dir() and not each.name.startswith("."))
    if not folders:
        raise DataError(f"{place}: has neither a folder for each class nor MNIST's idx files")
    files, labels = [], []
    for folder in folders:
        label = _label(folder.name, classes, str(folder))
        inside = sorted(each for each in folder.rglob("*") if each.suffix.lower() in PICTURES)
        files += inside
        labels += [label] * len(inside)
    if not files:
        raise DataError(f"{place}: no image in {len(folders)} folders")
    return ImageFiles(tuple(files), np.array(labels, np.int64), spec)


def _label(name: str, classes: Sequence[str], where: str) -> int:
    """The number of a class, told by its name or its number."""
    if name in classes:
        return list(classes).index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    some = ", ".join(classes[:8]) + (" …" if len(classes) > 8 else "")
    raise DataError(f"{where}: {name!r} is none of the {len(classes)} classes: {some}")


def _read_npz(file: Path, spec: InputSpec, classes: Sequence[str]) -> Examples:
    try:
        with np.load(file, allow_pickle=False) as stored:
            inputs, labels = stored["inputs"], stored["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{file}: has no arrays `inputs` and `labels` that can be read ({error})") from error
    return _fitted(file, inputs, labels, spec, classes)


def _read_idx(file: Path) -> NDArray[np.uint8]:
    """An idx file, zipped or not: a magic number, the sizes, the bytes."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        kind, axes = content[2], content[3]
        sizes = np.frombuffer(content, ">u4", axes, 4).astype(np.int64)
        return np.frombuffer(content, IDX_TYPES[kind], int(sizes.prod()), 4 + 4 * axes).reshape(sizes)
    except (OSError, EOFError, KeyError, IndexError, ValueError) as error:
        raise DataError(f"{file}: is no idx file that can be read ({error})") from error


def _fitted(
    place: Path, inputs: NDArray[Any], labels: NDArray[Any], spec: InputSpec, classes: Sequence[str]
) -> Examples:
    """Inputs and labels as the model has them."""
    if labels.ndim != 1 or len(labels) != len(inputs) or not len(labels):
        raise DataError(f"{place}: {len(inputs)} inputs and labels of shape {list(labels.shape)}")
    if labels.dtype.kind in "US":
        numbers = np.array([_label(str(each), classes, str(place)) for each in labels], np.int64)
    elif labels.dtype.kind in "iu":
        numbers = labels.astype(np.int64)
    else:
        raise DataError(f"{place}: labels of type {labels.dtype} are neither numbers nor names of classes")
    if numbers.min() < 0 or numbers.max() >= len(classes):
        raise DataError(
            f"{place}: label {numbers[(numbers < 0) | (numbers >= len(classes))][0]} of {len(classes)} classes"
        )
    return Examples(_on_range(_in_shape(place, inputs, spec), spec), numbers)


def _in_shape(place: Path, inputs: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    found, wanted = inputs.shape[1:], spec.shape
    if found == wanted:
        return inputs
    if len(wanted) == 3 and found == (*wanted[1:], wanted[0]):
        return np.moveaxis(inputs, -1, 1)
    if int(np.prod(found)) == int(np.prod(wanted)) and (wanted[0] == 1 or 1 in {len(found), len(wanted)}):
        return inputs.reshape(len(inputs), *wanted)
    raise DataError(f"{place}: inputs of shape {list(found)}, the model takes {list(wanted)}")


def _on_range(values: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    """Bytes spread over the value range, unless they are the whole numbers that the model takes; others as they are."""
    if values.dtype != np.uint8 or spec.integers:
        return values.astype(np.float32)
    low, high = spec.value_range
    if (low, high) == (0, 1):
        return values if values.ndim > 3 else values.astype(np.float32) / np.float32(255)
    return values.astype(np.float32) / np.float32(255) * np.float32(high - low) + np.float32(low)
