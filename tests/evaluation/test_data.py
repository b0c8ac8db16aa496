import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisevote.evaluation.data import DataError, picked, read_data
from noisevote.evaluation.examples import Examples
from noisevote.model_store.manifest import InputSpec, Preprocess

SPEC = InputSpec(shape=(3, 4, 4))
CLASSES = ("cat", "dog")


def picture(file: Path, size: tuple[int, int] = (4, 4), colour: tuple[int, int, int] = (255, 0, 51)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)


def test_class_folders_are_read_by_name_or_number(tmp_path: Path) -> None:
    """Images in them become inputs in the value range, in the order of the folders."""
    picture(tmp_path / "dog" / "a.png")
    picture(tmp_path / "0" / "inside" / "b.png", colour=(0, 0, 0))
    found = read_data(tmp_path, SPEC, CLASSES)
    assert found.labels.tolist() == [0, 1]
    values = found.values(np.array([1]))
    assert values.dtype == np.float32
    assert values[0, :, 0, 0].tolist() == pytest.approx([1, 0, 0.2])
    assert found.some(np.array([1])).labels.tolist() == [1]


def test_images_of_another_size_need_a_declared_preprocessing(tmp_path: Path) -> None:
    """Without one they are refused by name; with one they are resized, cut out and normalised."""
    picture(tmp_path / "cat" / "wide.png", (16, 8))
    with pytest.raises(
        DataError, match=r"wide\.png: is 16×8 pixels, the model takes 4×4 and declares no preprocessing"
    ):
        read_data(tmp_path, SPEC, CLASSES).values(slice(0, 1))
    declared = Preprocess(resize=4, channels="bgr", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.25))
    spec = InputSpec(shape=(3, 4, 4), value_range=(-2, 2), preprocess=declared)
    values = read_data(tmp_path, spec, CLASSES).values(slice(0, 1))
    assert values[0, :, 1, 1].tolist() == pytest.approx([(0.2 - 0.5) / 0.5, -1, 2])


def test_arrays_fit_the_model_or_are_refused(tmp_path: Path) -> None:
    """Bytes spread over the range, channels last are turned, labels may be names; misfits are named."""
    file = tmp_path / "d.npz"
    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    np.savez(file, inputs=pixels, labels=np.array(["dog", "cat"]))
    found = read_data(file, SPEC, CLASSES)
    assert found.labels.tolist() == [1, 0]
    assert np.allclose(found.values(slice(None)), pixels.transpose(0, 3, 1, 2) / 255)
    wide = read_data(file, InputSpec(shape=(3, 4, 4), value_range=(-1, 1)), CLASSES)
    assert np.allclose(wide.values(slice(None)), pixels.transpose(0, 3, 1, 2) / 255 * 2 - 1)
    tokens = InputSpec(shape=(48,), value_range=(0, 256), integers=True)
    assert np.array_equal(read_data(file, tokens, CLASSES).values(slice(None)), pixels.reshape(2, 48))
    for inputs, labels, message in (
        (pixels, np.array([0, 2]), "label 2 of 2 classes"),
        (pixels, np.array([0.0, 1.0]), "labels of type float64"),
        (pixels[:, :3], np.array([0, 1]), r"inputs of shape \[3, 4, 3\], the model takes \[3, 4, 4\]"),
        (pixels, np.array([0]), r"2 inputs and labels of shape \[1\]"),
    ):
        np.savez(file, inputs=inputs, labels=labels)
        with pytest.raises(DataError, match=message):
            read_data(file, SPEC, CLASSES)


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read(zipped: bool, tmp_path: Path) -> None:
    """MNIST's own, gzipped or not; the test's rather than the training's."""
    images = np.arange(3 * 16, dtype=np.uint8).reshape(3, 4, 4)
    for part, values in (("t10k", images), ("train", images + 1)):
        for name, content in (("images-idx3", values), ("labels-idx1", np.array([1, 0, 1], np.uint8))):
            sizes = np.array(content.shape, ">u4").tobytes()
            data = bytes((0, 0, 8, content.ndim)) + sizes + content.tobytes()
            file = tmp_path / f"{part}-{name}-ubyte{'.gz' if zipped else ''}"
            file.write_bytes(gzip.compress(data) if zipped else data)
    found = read_data(tmp_path, InputSpec(shape=(1, 4, 4)), CLASSES)
    assert found.labels.tolist() == [1, 0, 1]
    assert np.allclose(found.values(slice(None))[:, 0], images / 255)


def test_what_is_no_data_is_named(tmp_path: Path) -> None:
    """An empty folder, folders without images or of unknown classes, other files, damaged ones."""
    with pytest.raises(DataError, match="has neither a folder for each class nor"):
        read_data(tmp_path, SPEC, CLASSES)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="no image in 1 folders"):
        read_data(tmp_path, SPEC, CLASSES)
    (tmp_path / "wolf").mkdir()
    with pytest.raises(DataError, match=r"'wolf' is none of the 2 classes: cat, dog"):
        read_data(tmp_path, SPEC, CLASSES)
    (tmp_path / "d.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"d\.npz: has no arrays"):
        read_data(tmp_path / "d.npz", SPEC, CLASSES)
    with pytest.raises(DataError, match=r"gone: is no folder"):
        read_data(tmp_path / "gone", SPEC, CLASSES)
    picture(tmp_path / "x" / "cat" / "a.png")
    (tmp_path / "x" / "cat" / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"b\.png: is no image"):
        read_data(tmp_path / "x", SPEC, CLASSES).values(slice(None))


def test_some_examples_are_drawn_by_the_seed() -> None:
    """Without return and in their order; asking for more gives all."""
    data = Examples(np.arange(20, dtype=np.float32)[:, np.newaxis], np.arange(20))
    first, again, other = (picked(data, 5, seed).labels.tolist() for seed in (1, 1, 2))
    assert first == again == sorted(set(first)) != other
    assert len(picked(data, 99, 0)) == len(picked(data, None, 0)) == 20
