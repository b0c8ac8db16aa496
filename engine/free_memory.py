"""Gives freed memory back to the system."""

import ctypes
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

# Of glibc's malloc.h. Blocks from this size on are mapped each on its own, and go back whole when they are freed.
_MMAP_THRESHOLD: Final = -3
APART_BYTES: Final = 2**20
# Of Linux's mman-common.h.
_MADV_DONTNEED: Final = 4
_MAPS: Final = Path("/proc/self/maps")


def give_back() -> None:
    """Give freed memory back to the system, where the C library would keep it for later: in glibc.

    Making a session frees about as much as it keeps: the file's bytes and the weights in their first layout.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


def keep_large_blocks_apart() -> None:
    """Let large blocks always go back to the system when they are freed: in glibc.

    It raises the size from which they do with each one that is freed, up to 32 MiB, and then they leave holes between
    small ones: a hundred models that come and go leave 40 MiB.
    """
    set_option = _of_libc("mallopt")
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, APART_BYTES)


def let_go_of_code() -> None:
    """Take the code of libraries out of this process's memory; what runs again comes back from their files: on Linux.

    Reading and optimising a graph runs 9 MiB of ONNX Runtime's code that computing does not. Such pages were never
    written to: each is as it is in the file, which the system keeps in memory too as long as it has room.
    """
    advise = _of_libc("madvise")
    if advise is None:
        return
    with suppress(OSError):  # a container without /proc
        for line in _MAPS.read_text().splitlines():
            place, rights, _, _, _, *path = line.split(maxsplit=5)
            if rights == "r-xp" and path and path[0].startswith("/"):
                begin, end = (int(each, 16) for each in place.split("-"))
                advise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_DONTNEED)


@cache
def _trim() -> Any:
    return _of_libc("malloc_trim")


def _of_libc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
