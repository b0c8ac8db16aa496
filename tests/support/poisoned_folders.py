"""What may happen to a published version's folder."""

import json
import os
import socket
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any, Final

from noisevote.model_store.manifest import MANIFEST_FILE

FILE: Final = "mul-0.8.onnx"
Damage = Callable[[Path], None]


def replaced(name: str, put: Damage) -> Damage:
    """Put something else in the place of a file."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        put(folder / name)

    return damage


def written(content: bytes, name: str = MANIFEST_FILE) -> Damage:
    """Another content."""
    return replaced(name, lambda path: _discard(path.write_bytes(content)))


def edited(**fields: Any) -> Damage:
    """A manifest with other fields; None removes one."""

    def damage(folder: Path) -> None:
        path = folder / MANIFEST_FILE
        values = json.loads(path.read_text()) | fields
        path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))

    return damage


def _discard(_: object) -> None:
    """For functions that return what nobody needs."""


def longer(folder: Path) -> None:
    """Something behind the end."""
    with (folder / FILE).open("ab") as file:
        file.write(b"more")


def huge(folder: Path) -> None:
    """A sparse file of a tebibyte, and a manifest that says so."""
    with (folder / FILE).open("r+b") as file:
        file.truncate(2**40)
    values = json.loads((folder / MANIFEST_FILE).read_text())
    values["variants"][0]["bytes"] = 2**40
    (folder / MANIFEST_FILE).write_text(json.dumps(values))


def socket_at(path: Path) -> None:
    """A socket in the file system."""
    with chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:  # whose addresses are short
        bound.bind(path.name)


def zeros(path: Path) -> None:
    """More zeros than a manifest may be long."""
    with path.open("wb") as file:
        file.truncate(17 * 2**20)


def other_shape(*shape: int) -> Damage:
    """A manifest with another shape of inputs."""
    return edited(input={"shape": shape})


def file_name(name: str) -> Damage:
    """A manifest with another name of its file."""

    def damage(folder: Path) -> None:
        values = json.loads((folder / MANIFEST_FILE).read_text())
        values["variants"][0]["file"] = name
        (folder / MANIFEST_FILE).write_text(json.dumps(values))

    return damage


def fifo(path: Path) -> None:
    """Something that a reader waits for."""
    os.mkfifo(path)


def endless(path: Path) -> None:
    """Something that never ends."""
    path.symlink_to("/dev/zero")
