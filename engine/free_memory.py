"""Gives freed memory back to the system."""

import ctypes
import sys
from functools import cache
from typing import Any


def give_back() -> None:
    """Give freed memory back to the system, where the C library would keep it for later: in glibc.

    Making a session frees about as much as it keeps: the file's bytes and the weights in their first layout.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
