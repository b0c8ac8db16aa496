"""The model store: a folder `<name>/<version>/` per published version, and the only code that touches it.

A variant's bytes are read once and hashed in memory, and the same bytes are what the caller gets: a
file that changes after the check is never served. Publishing is atomic: a version is either wholly
there or not there.

Messages about unusable files name them relative to the store, because clients get to read them.
"""

import codecs
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from noisevote.model_store.files import flush_folder, replace_file, write_flushed
from noisevote.model_store.manifest import MANIFEST_FILE, Manifest, Variant
from noisevote.model_store.regular_file import UnreadableFileError, read_regular
from noisevote.model_store.survey import NAME, VERSION, Survey, folders, matches, survey

# The published manifests take up to 0.2 MB; this is where reading one ends.
LONGEST_MANIFEST_BYTES: Final = 16 * 2**20


class StoreError(Exception):
    """The model store cannot do what was asked."""


class UnknownVersionError(StoreError):
    """No such published version."""


class BadManifestError(StoreError):
    """A published version's manifest is missing, unreadable or not its own."""


class RefusedFileError(StoreError):
    """A variant's file is missing or is not the one that the manifest describes."""


class VersionExistsError(StoreError):
    """The version is published already."""


class MismatchedFilesError(StoreError):
    """The files to publish are not the ones that the manifest describes."""


@dataclass(frozen=True)
class Publication:
    """A version as found in the store: the manifest, the content of each usable file, and why others are refused.

    `files` and `refusals` are keyed by variant name; together they cover the manifest's variants.
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    refusals: Mapping[str, str]


def digest(content: bytes) -> str:
    """The sha256 that a manifest states, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class ModelStore:
    """The published models under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Names of all models that have a published version, sorted."""
        return sorted(entry.name for entry in folders(self.root, NAME) if self.versions(entry.name))

    def versions(self, name: str) -> list[str]:
        """Published versions of a model, oldest first; empty for an unknown one."""
        if not matches(NAME, name):
            return []
        return sorted((entry.name for entry in folders(self.root / name, VERSION)), key=int)

    def survey(self) -> Survey:
        """Everything in the store that is a version, or cannot be read, or was meant to be one."""
        return survey(self.root)

    def manifest(self, name: str, version: str | None = None) -> Manifest:
        """Manifest of a version; by default of the one with the highest number.

        Raises:
            UnknownVersionError: there is no such version.
            BadManifestError: its manifest cannot be used.
        """
        versions = self.versions(name)
        if not versions or (version is not None and version not in versions):
            raise UnknownVersionError(f"model {name!r} version {version!r}: not published in {self.root}")
        chosen = version or versions[-1]
        place = f"{name}/{chosen}/{MANIFEST_FILE}"
        try:
            content = read_regular(self.root / place, LONGEST_MANIFEST_BYTES).removeprefix(codecs.BOM_UTF8)
            manifest = Manifest.model_validate_json(content)
        except UnreadableFileError as error:
            raise BadManifestError(f"{place}: {error}") from error
        except ValidationError as error:
            raise BadManifestError(f"{place}: {_first_problem(error)}") from error
        if (manifest.name, manifest.version) != (name, chosen):
            raise BadManifestError(f"{place}: describes {manifest.name} version {manifest.version}")
        return manifest

    def fingerprint(self, name: str, version: str) -> tuple[tuple[str, int, int, int], ...]:
        """What changes when files of a version are written or replaced: names, times, sizes and numbers of its files.

        Empty for a version that is not there or cannot be read.
        """
        try:
            with os.scandir(self.root / name / version) as entries:
                found = [(entry.name, entry.stat()) for entry in entries]
        except OSError:
            return ()
        return tuple(sorted((file, stat.st_mtime_ns, stat.st_size, stat.st_ino) for file, stat in found))

    def read(self, manifest: Manifest, variant: Variant) -> bytes:
        """Content of a variant's ONNX file, equal in hash to what the manifest states.

        No more is read than the manifest announces, and nothing but a regular file.

        Raises:
            RefusedFileError: the file is missing or differs.
        """
        place = f"{manifest.name}/{manifest.version}/{variant.file}"
        try:
            content = read_regular(self.root / place, variant.bytes)
        except UnreadableFileError as error:
            raise RefusedFileError(f"{place}: {error}") from error
        found = digest(content)
        if found != variant.sha256:
            raise RefusedFileError(f"{place}: sha256 is {found}, the manifest says {variant.sha256}")
        return content

    def publication(self, name: str, version: str | None = None) -> Publication:
        """A version with every file that can be used; the others are refused by name.

        Raises:
            UnknownVersionError: there is no such version.
            BadManifestError: its manifest cannot be used.
        """
        manifest = self.manifest(name, version)
        files: dict[str, bytes] = {}
        refusals: dict[str, str] = {}
        for variant in manifest.variants:
            try:
                files[variant.name] = self.read(manifest, variant)
            except RefusedFileError as error:
                refusals[variant.name] = str(error)
        return Publication(manifest, files, refusals)

    def publish(self, manifest: Manifest, files: Mapping[str, bytes], *, replace: bool = False) -> Path:
        """Write a version: `files` holds the ONNX content of each variant, by variant name. Returns its folder.

        The version is written and flushed to a temporary folder beside its place, then renamed into it.
        With `replace`, a version that is there already is moved aside first, so for an instant there is
        none; a reader never sees a mixture.

        Raises:
            MismatchedFilesError: `files` are not those that the manifest describes.
            VersionExistsError: the version exists and `replace` is false.
        """
        _check_files(manifest, files)
        folder = self._folder(manifest)
        if folder.exists() and not replace:
            raise VersionExistsError(f"{folder}: is published already")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(folder.parent) as temporary:
            new, old = temporary / "new", temporary / "old"
            new.mkdir()
            for variant in manifest.variants:
                write_flushed(new / variant.file, files[variant.name])
            write_flushed(new / MANIFEST_FILE, f"{manifest.model_dump_json(indent=1)}\n".encode())
            flush_folder(new)
            if replace and folder.exists():
                folder.rename(old)
            _rename(new, folder, otherwise=old)
        flush_folder(folder.parent)
        return folder

    def add(self, name: str, version: str, variant: Variant, content: bytes) -> Path:
        """Add an int8 variant to a published version; returns its file. All that is there stays as it is.

        It is another way to compute a variant that the version has, so what the version is, and what `auto` chooses,
        stays the same. The file comes first, then the manifest is replaced whole, so a reader sees it with its file.

        Raises:
            UnknownVersionError: there is no such version.
            BadManifestError: its manifest cannot be used.
            MismatchedFilesError: `content` is not what the variant describes, or it cannot be added to the version.
        """
        before = self.manifest(name, version)
        if variant.precision == "float32":
            raise MismatchedFilesError(f"variant {variant.name}: is float32; another network is another version")
        _check_content(variant, content)
        folder = self._folder(before)
        written = json.loads((folder / MANIFEST_FILE).read_bytes())  # keys stay as they are written
        written["variants"].append(variant.model_dump(mode="json"))
        try:
            Manifest.model_validate_json(json.dumps(written))
        except ValidationError as error:
            raise MismatchedFilesError(f"variant {variant.name}: {_first_problem(error)}") from error
        replace_file(folder / variant.file, content)
        replace_file(folder / MANIFEST_FILE, f"{json.dumps(written, indent=1, ensure_ascii=False)}\n".encode())
        return folder / variant.file

    def _folder(self, manifest: Manifest) -> Path:
        return self.root / manifest.name / manifest.version


def _first_problem(error: ValidationError) -> str:
    """Where and what the first problem of a manifest is, in one line."""
    problem = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in problem["loc"]) or "manifest"
    return f"{place}: {problem['msg']}"


def _check_files(manifest: Manifest, files: Mapping[str, bytes]) -> None:
    described = {variant.name for variant in manifest.variants}
    if described != set(files):
        raise MismatchedFilesError(f"files: {sorted(files)} are given, {sorted(described)} are described")
    for variant in manifest.variants:
        _check_content(variant, files[variant.name])


def _check_content(variant: Variant, content: bytes) -> None:
    if (digest(content), len(content)) != (variant.sha256, variant.bytes):
        raise MismatchedFilesError(
            f"variant {variant.name}: {len(content)} bytes of sha256 {digest(content)} are given, "
            f"{variant.bytes} bytes of {variant.sha256} are described"
        )


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder on the same file system whose name no reader takes for a version; removed at the end."""
    temporary = Path(tempfile.mkdtemp(prefix=".publishing-", dir=parent))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary)


def _rename(new: Path, folder: Path, otherwise: Path) -> None:
    """Put `new` in its place, unless another publisher was faster; if that fails put `otherwise` back."""
    try:
        new.rename(folder)
    except OSError as error:
        if folder.exists():  # renaming onto a folder with files fails: it appeared after the first look
            raise VersionExistsError(f"{folder}: is published already") from error
        if otherwise.exists():
            otherwise.rename(folder)
        raise
