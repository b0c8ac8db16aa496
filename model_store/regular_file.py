"""Reads a file of somebody else's folder without waiting for it and without reading more than was announced."""

import os
import stat
from pathlib import Path

# Opening a FIFO would otherwise wait for a writer, and a terminal would become the process's own.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class UnreadableFileError(Exception):
    """It is not there, no regular file, or longer than it may be; the message says which, without its path."""


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Content of a regular file, or of one that a link leads to.

    Raises:
        UnreadableFileError: it cannot be opened, is a FIFO, device or folder, or holds more than `most_bytes`.
    """
    try:
        descriptor = os.open(path, _FLAGS)
        try:
            content = _read(descriptor, most_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnreadableFileError(error.strerror or type(error).__name__) from error
    if len(content) > most_bytes:  # it grew meanwhile
        raise UnreadableFileError(f"holds more than {most_bytes} bytes")
    return content


def _read(descriptor: int, most_bytes: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFileError("is no regular file")
    if status.st_size > most_bytes:
        raise UnreadableFileError(f"holds {status.st_size} bytes, more than {most_bytes}")
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(status.st_size + 1)
