import os
from pathlib import Path

import pytest

from noisevote.model_store import files
from noisevote.model_store.files import replace_file


def test_replacing_leaves_one_file(tmp_path: Path) -> None:
    """The second content takes the first one's place, and no temporary file is left."""
    for content in (b"first, and longer", b"second"):
        replace_file(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk loses nothing, and leaves no rubbish."""
    replace_file(tmp_path / "file", b"first")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "file", b"second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"first"}


def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is flushed, then renamed, then its folder is flushed: after a crash there is no empty file."""
    done: list[str] = []
    flush, rename, flush_folder = os.fsync, Path.replace, files.flush_folder

    def flushed(descriptor: int) -> None:
        flush(descriptor)
        done.append("fsync")

    def renamed(path: Path, target: Path) -> Path:
        done.append("rename")
        return rename(path, target)

    def folder_flushed(path: Path) -> None:
        done.append(f"folder {path.name}")
        flush_folder(path)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    monkeypatch.setattr(files, "flush_folder", folder_flushed)
    replace_file(tmp_path / "file", b"content")
    assert done == ["fsync", "rename", f"folder {tmp_path.name}", "fsync"]
