"""Which code and which versions made a result."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

DEVICE: Final = "device"  # among the versions, where a graphics card computed
COMMIT_VARIABLE: Final = "NOISEVOTE_COMMIT"
REPOSITORY = Path(__file__).resolve().parent.parent
_PACKAGES = ("torch", "numpy", "onnx", "onnxruntime")


def versions() -> dict[str, str]:
    """Versions of Python and of those libraries that decide results and are installed; none of them is imported."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the working tree, with `-dirty` where tracked files differ from it; None outside a git checkout.

    A copy without its history is told by the variable NOISEVOTE_COMMIT what it is a copy of.
    """
    if told := os.environ.get(COMMIT_VARIABLE):
        return told
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return None
    return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, no repository: provenance is then unknown
        return None
    return answer.stdout.strip()
