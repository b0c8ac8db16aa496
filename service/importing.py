"""Imports the server in less time and memory: without what packages bring along by the way, and what looks at it.

Imports are most of what a start takes, and more than half of the memory of a small server.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

# FastAPI asks for pydantic's former version to refuse its models, uvicorn for what restarts it when files change. Both
# go on without, and here nobody wants them: 3 MiB.
UNWANTED: Final = ("pydantic.v1", "watchfiles")


@contextmanager
def leanly() -> Iterator[None]:
    """Import what is imported inside, of which nothing is collected: then nor before the process ends."""
    gc.disable()
    try:
        with _hidden(UNWANTED):
            _import_scipy()
            _import_fastapi()
            yield
        gc.freeze()  # else the first collection would look through all of it, for a tenth of a second
    finally:
        gc.enable()


@contextmanager
def _hidden(names: tuple[str, ...]) -> Iterator[None]:
    """Let modules be missing, as far as they are not imported yet. Afterwards they can be imported as ever."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None there means "not found"
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


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


def _import_fastapi() -> None:
    """Import FastAPI without preparing its models of OpenAPI, which the first look at /docs needs: 1.3 MiB.

    Pydantic prepares a model when it is first used where its class says so, and classes inherit that.
    """
    from pydantic import BaseModel  # noqa: PLC0415  # after what hides its former version

    BaseModel.model_config["defer_build"] = True
    try:
        import fastapi.openapi.models  # noqa: F401, PLC0415  # it is what this is about
    finally:
        del BaseModel.model_config["defer_build"]
