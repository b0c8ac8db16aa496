"""Gives freed memory back to the system."""

import ctypes
import sys
from functools import cache
from typing import Any, Final

# Of glibc's malloc.h. Blocks from this size on are mapped each on its own, and go back whole when they are freed.
_MMAP_THRESHOLD: Final = -3
APART_BYTES: Final = 2**20


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


@cache
def _trim() -> Any:
    return _of_libc("malloc_trim")


def _of_libc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
