import os
from pathlib import Path

import pytest

from noisevote.model_store.manifest import MANIFEST_FILE
from noisevote.model_store.store import BadManifestError, ModelStore, RefusedFileError
from tests.support.manifests import manifest, variant

FILES = {"mul-0.8": b"eight"}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with `tiny` version 1."""
    store = ModelStore(tmp_path / "models")
    store.publish(manifest(FILES), FILES)
    return store


@pytest.mark.parametrize(
    ("inside", "place", "reason"),
    [
        ("", "models/tiny/", "is the store one folder deeper?"),
        ("models/tiny", "1/", "is the store the folder above?"),
        ("models/tiny/1", MANIFEST_FILE, "belongs in <model>/<version>/"),
    ],
)
def test_a_store_at_another_level_is_told_by_what_lies_there(
    store: ModelStore, inside: str, place: str, reason: str
) -> None:
    """The folder above the store, a model's folder and a version's folder each say where the store may be."""
    found = ModelStore(store.root.parent / inside).survey()
    assert not found.versions
    remark = next(each for each in found.ignored if each.place == place)
    assert reason in remark.reason


def test_folders_that_are_no_versions_are_named(store: ModelStore) -> None:
    """`v5`, a model without a version, a name in capitals; hidden folders and files are nobody's business."""
    for name in ("tiny/v5", "empty", "Upper/1", "tiny/.publishing-x"):
        (store.root / name).mkdir(parents=True)
    (store.root / "README").write_text("models")
    found = store.survey()
    assert found.versions == [("tiny", "1")]
    assert [remark.place for remark in found.ignored] == ["Upper/", "empty/", "tiny/v5/"]


def test_a_folder_that_may_not_be_read_is_named_and_the_others_are_found(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mode 000 of a model's folder takes no other model away."""
    closed = store.root / "closed"
    closed.mkdir()
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("noisevote.model_store.survey.os.scandir", refuse)
    found = store.survey()
    assert found.versions == [("tiny", "1")]
    assert found.unreadable == [("closed", "cannot be read: Permission denied")]


def test_versions_are_found_oldest_first(store: ModelStore) -> None:
    """Version 10 comes after version 9."""
    for version in ("10", "9"):
        store.publish(manifest(FILES, version=version), FILES)
    assert store.survey().versions == [("tiny", "1"), ("tiny", "9"), ("tiny", "10")]


def test_a_manifest_may_begin_with_a_byte_order_mark(store: ModelStore) -> None:
    """As some editors write it."""
    path = store.root / "tiny/1" / MANIFEST_FILE
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert store.manifest("tiny") == manifest(FILES)


def place_fifo(path: Path) -> None:
    """Something that a reader waits for."""
    os.mkfifo(path)


def place_endless(path: Path) -> None:
    """Something that never ends."""
    path.symlink_to("/dev/zero")


def place_folder(path: Path) -> None:
    """Something that is not read at all."""
    path.mkdir()


def place_long(path: Path) -> None:
    """A file far longer than it may be, without using a disk."""
    with path.open("wb") as file:
        file.truncate(2**40)


STRANGE = [
    (place_fifo, "no regular file"),
    (place_endless, "no regular file"),
    (place_folder, "no regular file"),
    (place_long, "more than"),
]


@pytest.mark.parametrize(("put", "reason"), STRANGE)
def test_only_regular_files_of_the_announced_size_are_read(store: ModelStore, put: object, reason: str) -> None:
    """A FIFO, a device, a folder and a terabyte are refused at once, as model and as manifest."""
    assert callable(put)
    for name in ("mul-0.8.onnx", MANIFEST_FILE):
        (store.root / "tiny/1" / name).unlink()
        put(store.root / "tiny/1" / name)
    with pytest.raises(RefusedFileError, match=reason):
        store.read(manifest(FILES), variant(content=b"eight"))
    with pytest.raises(BadManifestError, match=reason):
        store.manifest("tiny")


def test_a_link_to_a_regular_file_is_read(store: ModelStore) -> None:
    """Stores that keep their files elsewhere work."""
    path = store.root / "tiny/1/mul-0.8.onnx"
    path.rename(store.root / "elsewhere")
    path.symlink_to(store.root / "elsewhere")
    assert store.publication("tiny").files == FILES


def test_a_hundred_thousand_classes_are_checked_in_no_time() -> None:
    """Looking for repeated names takes a time in proportion to how many there are."""
    classes = tuple(map(str, range(100_000)))
    assert manifest(FILES, classes=classes).classes == classes
