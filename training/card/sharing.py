"""A graphics card shared by several processes at the same time, by CUDA's multi-process service where there is one."""

import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import torch

CONTROL: Final = "nvidia-cuda-mps-control"
PLACES: Final = ("/usr/local/nvidia/bin", "/usr/local/cuda/bin", "/usr/bin")
VARIABLES: Final = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
PATIENCE_S: Final = 30.0


@contextmanager
def shared_card(folder: Path) -> Iterator[tuple[bool, str]]:
    """Inside, processes that are started share the card if that works; tells whether it does, and by what or why not.

    The service is asked for and tried by a process that computes something; where that fails, it is ended again.
    """
    control = shutil.which(CONTROL) or shutil.which(CONTROL, path=os.pathsep.join(PLACES))
    if control is None:
        yield False, "no multi-process service here"
        return
    for variable in VARIABLES:
        os.environ[variable] = str(folder.resolve() / variable.lower())
        Path(os.environ[variable]).mkdir(parents=True, exist_ok=True)
    started = subprocess.run([control, "-d"], check=False, capture_output=True, text=True)
    try:
        if works():
            yield True, control
            return
        _quit(control)
        for variable in VARIABLES:
            os.environ.pop(variable, None)
        yield False, f"the service does not answer ({started.stdout}{started.stderr})"
    finally:
        if VARIABLES[0] in os.environ:
            _quit(control)


def works() -> bool:
    """Whether a process of its own can compute on the card."""
    process = multiprocessing.get_context("fork").Process(target=_compute)
    process.start()
    process.join(PATIENCE_S)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode == 0


def _compute() -> None:
    assert float(torch.ones(8, device="cuda").sum()) == 8


def _quit(control: str) -> None:
    with suppress(subprocess.TimeoutExpired):  # a client hangs; the service ends with the machine
        subprocess.run([control], input="quit\n", text=True, check=False, capture_output=True, timeout=PATIENCE_S)
