import json
import os
from pathlib import Path

import pytest

from noisevote.model_store import store as store_module
from noisevote.model_store.files import write_flushed
from noisevote.model_store.manifest import MANIFEST_FILE
from noisevote.model_store.store import (
    BadManifestError,
    MismatchedFilesError,
    ModelStore,
    UnknownVersionError,
    VersionExistsError,
)
from tests.support.manifests import manifest, variant

FILES = {"mul-0.0": b"zero", "mul-0.8": b"eight"}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with `tiny` version 1."""
    store = ModelStore(tmp_path / "models")
    store.publish(manifest(FILES), FILES)
    return store


def test_what_is_published_is_what_is_read(store: ModelStore) -> None:
    """Manifest and files come back unchanged, and nothing is refused."""
    publication = store.publication("tiny")
    assert publication.manifest == manifest(FILES)
    assert publication.files == FILES
    assert not publication.refusals
    assert store.names() == ["tiny"]


def test_the_default_version_is_the_highest_number(store: ModelStore) -> None:
    """Version 10 is newer than version 9."""
    for version in ("9", "10"):
        store.publish(manifest(FILES, version=version), FILES)
    assert store.versions("tiny") == ["1", "9", "10"]
    assert store.manifest("tiny").version == "10"
    assert store.manifest("tiny", "9").version == "9"


@pytest.mark.parametrize("name", ["unknown", "..", "../models/tiny", "", "tiny/1", "/etc"])
def test_other_names_find_nothing(store: ModelStore, name: str) -> None:
    """Unknown names and paths in disguise are both simply not published."""
    assert store.versions(name) == []
    with pytest.raises(UnknownVersionError, match="not published"):
        store.publication(name)


@pytest.mark.parametrize("version", ["2", "0", "..", "", "../1", "latest"])
def test_other_versions_find_nothing(store: ModelStore, version: str) -> None:
    """So do versions."""
    with pytest.raises(UnknownVersionError, match="not published"):
        store.publication("tiny", version)


def test_a_changed_file_is_refused_by_name_and_the_others_serve(store: ModelStore) -> None:
    """One flipped bit is enough, and harms nobody else."""
    (store.root / "tiny/1/mul-0.8.onnx").write_bytes(b"eighu")
    publication = store.publication("tiny")
    assert publication.files == {"mul-0.0": b"zero"}
    assert list(publication.refusals) == ["mul-0.8"]
    assert "sha256" in publication.refusals["mul-0.8"]


def test_a_missing_file_is_refused_by_name_and_the_others_serve(store: ModelStore) -> None:
    """A file that is not there does not take its version down."""
    (store.root / "tiny/1/mul-0.0.onnx").unlink()
    publication = store.publication("tiny")
    assert publication.files == {"mul-0.8": b"eight"}
    assert "No such file" in publication.refusals["mul-0.0"]


@pytest.mark.parametrize("content", ["", "{", "{}", '{"name": "tiny"}'])
def test_a_broken_manifest_is_an_error_that_names_it(store: ModelStore, content: str) -> None:
    """The message leads to the file."""
    (store.root / "tiny/1" / MANIFEST_FILE).write_text(content)
    with pytest.raises(BadManifestError, match=MANIFEST_FILE):
        store.publication("tiny")


def test_a_manifest_must_describe_the_folder_it_lies_in(store: ModelStore) -> None:
    """A copied folder is not a new version."""
    path = store.root / "tiny/1" / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": "7"}))
    with pytest.raises(BadManifestError, match="describes tiny version 7"):
        store.publication("tiny")


def test_a_published_version_is_not_overwritten_unless_asked(store: ModelStore) -> None:
    """Versions are immutable by default."""
    changed = {"mul-0.0": b"other"}
    with pytest.raises(VersionExistsError):
        store.publish(manifest(changed), changed)
    assert store.publication("tiny").files == FILES
    store.publish(manifest(changed), changed, replace=True)
    assert store.publication("tiny").files == changed


def test_files_must_be_those_of_the_manifest(tmp_path: Path) -> None:
    """Neither other variants nor other content is published."""
    store = ModelStore(tmp_path)
    for files in ({"mul-0.0": b"zero"}, FILES | {"mul-0.8": b"nine"}, FILES | {"more": b""}):
        with pytest.raises(MismatchedFilesError):
            store.publish(manifest(FILES), files)
    assert store.names() == []


@pytest.mark.parametrize("replace", [False, True])
def test_a_failed_publication_leaves_the_store_as_it_was(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    """A full disk in the middle shows nothing new, loses nothing old, and leaves no rubbish."""
    before = sorted(store.root.rglob("*"))
    written: list[Path] = []

    def full_disk(path: Path, content: bytes) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.write_bytes(content)

    monkeypatch.setattr(store_module, "write_flushed", full_disk)
    with pytest.raises(OSError, match="No space left"):
        store.publish(manifest(FILES, version="1" if replace else "2"), FILES, replace=replace)
    assert sorted(store.root.rglob("*")) == before
    assert store.publication("tiny").files == FILES


def test_the_faster_of_two_publishers_wins(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that appears while another is being written is not overwritten."""
    other = {"mul-0.0": b"other"}

    def overtaken(path: Path, content: bytes) -> None:
        monkeypatch.setattr(store_module, "write_flushed", write_flushed)
        store.publish(manifest(other, version="2"), other)
        write_flushed(path, content)

    monkeypatch.setattr(store_module, "write_flushed", overtaken)
    with pytest.raises(VersionExistsError):
        store.publish(manifest(FILES, version="2"), FILES)
    assert store.publication("tiny", "2").files == other


def test_unfinished_and_foreign_folders_are_not_versions(store: ModelStore) -> None:
    """What a crash leaves behind, or somebody else puts there, is no model."""
    for name in ("tiny/.publishing-x/new", "tiny/notes", ".publishing-y", "Upper/1"):
        (store.root / name).mkdir(parents=True)
    (store.root / "README").write_text("models")
    assert store.names() == ["tiny"]
    assert store.versions("tiny") == ["1"]


def test_an_empty_or_missing_store_has_no_models(tmp_path: Path) -> None:
    """Reading never creates anything."""
    assert ModelStore(tmp_path / "nowhere").names() == []
    assert os.listdir(tmp_path) == []


def test_a_twin_is_added_and_all_else_stays(tmp_path: Path) -> None:
    """A version gains an int8 twin: its other files keep their bytes, and its other entries what they say."""
    store = ModelStore(tmp_path)
    store.publish(manifest({"mul-0.8": b"onnx"}), {"mul-0.8": b"onnx"})
    before = store.manifest("tiny", "1")
    twin = variant("mul-0.8-int8", b"bytes", precision="int8", twin="mul-0.8")
    assert store.add("tiny", "1", twin, b"bytes").name == "mul-0.8-int8.onnx"
    after = store.publication("tiny", "1")
    assert after.manifest.variants == (*before.variants, twin)
    assert after.manifest.model_copy(update={"variants": before.variants}) == before
    assert after.files == {"mul-0.8": b"onnx", "mul-0.8-int8": b"bytes"}


def test_what_is_no_twin_cannot_be_added(tmp_path: Path) -> None:
    """Another network, other bytes, a name that is taken or a twin of nothing are refused, and nothing is written."""
    store = ModelStore(tmp_path)
    store.publish(manifest({"mul-0.8": b"onnx"}), {"mul-0.8": b"onnx"})
    for wrong, content in (
        (variant("mul-0.9", b"bytes"), b"bytes"),
        (variant("mul-0.8-int8", b"bytes", precision="int8", twin="mul-0.8"), b"other"),
        (variant("mul-0.8", b"bytes", precision="int8", twin="mul-0.8"), b"bytes"),
        (variant("mul-0.9-int8", b"bytes", precision="int8", twin="mul-0.9"), b"bytes"),
    ):
        with pytest.raises(MismatchedFilesError, match="variant"):
            store.add("tiny", "1", wrong, content)
    assert [file.name for file in sorted((tmp_path / "tiny/1").iterdir())] == ["manifest.json", "mul-0.8.onnx"]
