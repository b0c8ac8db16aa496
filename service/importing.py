"""Imports the server in less time and memory: without what packages bring along by the way, and what looks at it.

Imports are most of what a start takes, and a third of the memory of a small server.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def leanly() -> Iterator[None]:
    """Import what is imported inside, of which nothing is collected: then nor before the process ends."""
    gc.disable()
    try:
        _import_scipy()
        yield
        gc.freeze()  # else the first collection would look through all of it, for a tenth of a second
    finally:
        gc.enable()


def _import_scipy() -> None:
    """Import scipy.special without NumPy's rarely used parts, as f2py and testing: 12 MiB and a tenth of a second.

    SciPy keeps a copy of NumPy's names for the array API, and copying them imports all that NumPy imports lazily. What
    is not loaded yet is hidden from it meanwhile. NumPy itself loses nothing.
    """
    whole, names = np.__all__, np.__dir__
    loaded = vars(np).keys()
    np.__all__ = [name for name in whole if name in loaded]
    np.__dir__ = lambda: [name for name in names() if name in loaded]  # type: ignore[method-assign]  # of a module
    try:
        from scipy import special  # noqa: F401, PLC0415  # it is what this is about
    finally:
        np.__all__, np.__dir__ = whole, names  # type: ignore[method-assign]
