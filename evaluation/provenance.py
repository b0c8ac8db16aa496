"""Which code and which versions made a result."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch

DEVICE: Final = "device"  # among the versions, where a graphics card computed
COMMIT_VARIABLE: Final = "NOISEVOTE_COMMIT"
REPOSITORY = Path(__file__).resolve().parent.parent
_PACKAGES = ("torch", "numpy", "onnx", "onnxruntime")


def versions(device: torch.device | None = None) -> dict[str, str]:
    """Versions of Python and of the libraries that decide results, and the graphics card if one computed."""
    found = {"python": platform.python_version()} | {package: version(package) for package in _PACKAGES}
    if device is None or device.type != "cuda":
        return found
    return found | {"cuda": str(torch.version.cuda), DEVICE: torch.cuda.get_device_name(device)}


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
