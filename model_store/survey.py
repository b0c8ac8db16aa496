"""What lies in a store's folder: published versions, what cannot be looked into, and what is no version at all.

A folder one level too deep, or one called `v5`, is the usual reason why "nothing is there": so what is passed over
is named, with the reason.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from noisevote.model_store.manifest import MANIFEST_FILE, Name, Version

NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)
VERSION: Final[TypeAdapter[str]] = TypeAdapter(Version)


class Remark(NamedTuple):
    """A place inside the store, and what is the matter with it."""

    place: str
    reason: str


@dataclass
class Survey:
    """Versions as (model, version), oldest version first; places that cannot be read; places that were passed over."""

    versions: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[Remark] = field(default_factory=list)
    ignored: list[Remark] = field(default_factory=list)


def matches(pattern: TypeAdapter[str], text: str) -> bool:
    """Whether it is a name of that kind."""
    try:
        pattern.validate_python(text)
    except ValidationError:
        return False
    return True


def folders(parent: Path, pattern: TypeAdapter[str]) -> Iterator[os.DirEntry[str]]:
    """Folders inside `parent` whose name matches; none if there is no such parent."""
    if parent.is_dir():
        yield from (entry for entry in _visible(parent) if matches(pattern, entry.name) and entry.is_dir())


def survey(root: Path) -> Survey:
    """Look through the store, two levels deep. Files beside the models' folders are nobody's concern."""
    found = Survey()
    if (root / MANIFEST_FILE).exists():
        found.ignored.append(Remark(MANIFEST_FILE, "lies in the store itself; it belongs in <model>/<version>/"))
    for entry in sorted(_visible(root), key=lambda entry: entry.name):
        try:
            if entry.is_dir():
                _look_into(entry, found)
        except OSError as error:
            found.unreadable.append(Remark(entry.name, f"cannot be read: {error.strerror}"))
    return found


def _look_into(model: os.DirEntry[str], found: Survey) -> None:
    if not matches(NAME, model.name):
        found.ignored.append(Remark(f"{model.name}/", "is no model's name (small letters, digits, _ . -)"))
        return
    inside = sorted((entry for entry in _visible(Path(model.path)) if entry.is_dir()), key=lambda entry: entry.name)
    versions = sorted((entry.name for entry in inside if matches(VERSION, entry.name)), key=int)
    found.versions += [(model.name, version) for version in versions]
    strange = [entry for entry in inside if entry.name not in versions]
    found.ignored += [Remark(f"{model.name}/{each.name}/", _why_no_version(Path(each.path))) for each in strange]
    if not inside:
        found.ignored.append(Remark(f"{model.name}/", _why_no_model(Path(model.path))))


def _why_no_version(folder: Path) -> str:
    if any(entry.is_dir() and matches(VERSION, entry.name) for entry in _visible(folder)):
        return "is no version's number but has versions inside; is the store one folder deeper?"
    return "is no version's number (1, 2, 3 …)"


def _why_no_model(folder: Path) -> str:
    if (folder / MANIFEST_FILE).exists():
        return f"has a {MANIFEST_FILE} but no version's folder; is the store the folder above?"
    return "has no version's folder (1, 2, 3 …)"


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """Entries but hidden ones, such as versions that are being published."""
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]
