"""The provenance of a run: the code, libraries, device and data that made its weights."""

from typing import Any

import torch

from noisevote.evaluation.provenance import DEVICE, git_commit, versions
from noisevote.training.data.data_set import DataSet


def provenance(data: DataSet, device: torch.device) -> dict[str, Any]:
    """Return the provenance that a run's log and weights carry, as JSON values."""
    return {
        "commit": git_commit(),
        "versions": {**versions(), **described(device)},
        "data_hashes": data.hashes,
    }


def described(device: torch.device) -> dict[str, str]:
    """Return the graphics card and its CUDA, as they are noted among versions; nothing for the processor."""
    if device.type != "cuda":
        return {}
    return {"cuda": str(torch.version.cuda), DEVICE: torch.cuda.get_device_name(device)}


def data_hashes(state: dict[str, Any]) -> dict[str, str]:
    """Read data file to `<algorithm>:<hash>` off the state of a run's weights.

    Runs of before there were several algorithms hold bare MD5 sums.
    """
    bare: dict[str, str] = state.get("data_md5", {})
    hashes: dict[str, str] = state.get("data_hashes", {})
    return hashes | {name: f"md5:{md5}" for name, md5 in bare.items()}
