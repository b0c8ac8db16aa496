"""Runs Python as on a processor with AVX2 and without AVX-512 and VNNI, at its real speed: see older_processor.c."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_suffix(".c")
UNABLE: Final = 97  # the program's exit status where this processor or system cannot


class CannotLookOlderError(RuntimeError):
    """There is no C compiler, or processor or system do not let a program be told of another processor."""


def run(arguments: Sequence[str], *, timeout_s: float = 600) -> str:
    """What `python ARGUMENTS…` prints.

    Raises:
        CannotLookOlderError: it cannot be done here.
        subprocess.CalledProcessError: the program fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "older_processor.so"
        build = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
        try:
            subprocess.run(build, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CannotLookOlderError(f"{SOURCE.name} cannot be compiled: {error}") from error
        environment = os.environ | {"LD_PRELOAD": str(library)}
        done = subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    if done.returncode == UNABLE:
        raise CannotLookOlderError("this processor or system cannot trap the instruction cpuid")
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, arguments, done.stdout, done.stderr)
    return done.stdout
