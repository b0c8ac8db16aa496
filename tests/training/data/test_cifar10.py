import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from noisevote.training.data import cifar10, registry
from noisevote.training.data.files import CorruptDataError, DataSource, MissingDataError

IMAGES = 6  # a batch


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Six tiny batch files, labels and pixels at random, whose hashes are the published ones."""
    generator = np.random.default_rng(0)
    content = {}
    for name in cifar10.MD5:
        records = generator.integers(0, 256, (IMAGES, cifar10.RECORD), np.uint8)
        records[:, 0] %= 10
        content[name] = records.tobytes()
    monkeypatch.setattr(cifar10, "MD5", {name: hashlib.md5(raw).hexdigest() for name, raw in content.items()})
    return content


def write_part(path: Path, content: bytes, strips: int = 3) -> None:
    """A batch as a zip of its labels and of lossless WebP strips of images one below the other."""
    records = np.frombuffer(content, np.uint8).reshape(-1, cifar10.RECORD)
    pixels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # [images, height, width, colours]
    with zipfile.ZipFile(path, "w") as part:
        part.writestr("labels.bin", records[:, 0].tobytes())
        for number, images in enumerate(np.split(pixels, strips)):
            packed = io.BytesIO()
            strip: NDArray[np.uint8] = np.ascontiguousarray(images.reshape(-1, 32, 3))
            Image.fromarray(strip).save(packed, "WEBP", lossless=True)
            part.writestr(f"{number:03d}.webp", packed.getvalue())


def write_all(folder: Path, batches: dict[str, bytes], form: str) -> None:
    """The six batches in `folder` in one of the forms that they come in."""
    inside = folder / form if form == cifar10.INSIDE else folder
    inside.mkdir(parents=True, exist_ok=True)
    for name, content in batches.items():
        if form == "parts":
            write_part((folder / name).with_suffix(".zip"), content)
        else:
            (inside / name).write_bytes(content)


@pytest.mark.parametrize("form", ["batches", cifar10.INSIDE, "parts"])
def test_each_form_gives_the_same_images(batches: dict[str, bytes], tmp_path: Path, form: str) -> None:
    """The batch files, their folder and the WebP parts read as the same labels and colour planes."""
    write_all(tmp_path / "cifar10", batches, form)
    loaded = registry.load("cifar10", DataSource(folder=tmp_path))
    raw = b"".join(batches[name] for name in sorted(batches) if name.startswith("data"))
    expected = np.frombuffer(raw, np.uint8).reshape(5 * IMAGES, cifar10.RECORD)
    assert loaded.train.inputs.shape == (5 * IMAGES, 3, 32, 32)
    assert np.array_equal(loaded.train.inputs.reshape(5 * IMAGES, -1), expected[:, 1:])
    assert np.array_equal(loaded.train.labels, expected[:, 0])
    assert loaded.test.labels.tolist() == list(batches["test_batch.bin"][:: cifar10.RECORD])
    assert loaded.hashes == {name: f"md5:{md5}" for name, md5 in cifar10.MD5.items()}


def test_archive_is_downloaded_checked_and_kept(
    batches: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a folder the archive comes from a mirror, if its hash is right, and next time from the cache."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    with tarfile.open(mirror / cifar10.ARCHIVE, "w:gz") as archive:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"{cifar10.INSIDE}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    cache, mirrors = tmp_path / "cache", (f"{mirror.as_uri()}/",)
    with pytest.raises(MissingDataError, match=cifar10.ARCHIVE_MD5):
        registry.load("cifar10", DataSource(cache=cache, mirrors=mirrors))
    packed = (mirror / cifar10.ARCHIVE).read_bytes()
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(packed).hexdigest())
    first = registry.load("cifar10", DataSource(cache=cache, mirrors=mirrors))
    again = registry.load("cifar10", DataSource(cache=cache, mirrors=()))
    assert np.array_equal(first.train.inputs, again.train.inputs)
    assert first.test.labels.tolist() == list(batches["test_batch.bin"][:: cifar10.RECORD])


@pytest.mark.parametrize("form", ["batches", "parts"])
def test_changed_pixel_is_refused(batches: dict[str, bytes], tmp_path: Path, form: str) -> None:
    """One changed byte in one image is an error that names the file and both hashes."""
    expected = cifar10.MD5["data_batch_3.bin"]
    raw = bytearray(batches["data_batch_3.bin"])
    raw[1000] ^= 1
    write_all(tmp_path, {**batches, "data_batch_3.bin": bytes(raw)}, form)
    with pytest.raises(CorruptDataError, match=f"data_batch_3.*{hashlib.md5(raw).hexdigest()}.*{expected}"):
        registry.load("cifar10", DataSource(folder=tmp_path))


@pytest.mark.parametrize("damage", ["cut", "no labels", "not a picture", "a strip short"])
def test_damaged_part_is_refused_by_name(batches: dict[str, bytes], tmp_path: Path, damage: str) -> None:
    """A part that cannot be read is a corrupt file, whatever is wrong with it."""
    write_all(tmp_path, batches, "parts")
    path = tmp_path / "test_batch.zip"
    with zipfile.ZipFile(path) as part:
        inside = {name: part.read(name) for name in part.namelist()}
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        if damage == "not a picture":
            inside["001.webp"] = b"RIFF"
        else:
            del inside["labels.bin" if damage == "no labels" else "001.webp"]
        with zipfile.ZipFile(path, "w") as part:
            for name, content in inside.items():
                part.writestr(name, content)
    with pytest.raises(CorruptDataError, match=r"test_batch\.zip.*unreadable"):
        registry.load("cifar10", DataSource(folder=tmp_path))


def test_missing_part_is_named(batches: dict[str, bytes], tmp_path: Path) -> None:
    """Five batches of six are an error that names the sixth, not a download and not a smaller data set."""
    write_all(tmp_path, batches, "parts")
    (tmp_path / "data_batch_4.zip").unlink()
    with pytest.raises(MissingDataError, match=r"data_batch_4\.bin \(or \.zip\)"):
        registry.load("cifar10", DataSource(folder=tmp_path))


def test_folder_without_images_is_named(tmp_path: Path) -> None:
    """A folder that holds nothing of CIFAR-10 is named, with the file that would do."""
    with pytest.raises(MissingDataError, match=rf"{cifar10.ARCHIVE}.*{tmp_path}"):
        registry.load("cifar10", DataSource(folder=tmp_path))
