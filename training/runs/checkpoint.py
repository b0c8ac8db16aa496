"""Tensors and state of an unfinished run in one safetensors file, written atomically."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from noisevote.model_store.files import replace_file
from noisevote.training.errors import TrainingError

_STATE = "state"


class CheckpointError(TrainingError):
    """A checkpoint cannot be used."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"checkpoint {path}: {why}")


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors, and a state of JSON values (floats keep every bit)."""

    tensors: Mapping[str, Tensor]
    state: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `prefix.`, without it."""
        start = f"{prefix}."
        return {name.removeprefix(start): tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Replace `path` whole: a reader, or a run that is killed here, sees the old file or the new one."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    replace_file(path, save(tensors, metadata={_STATE: json.dumps(checkpoint.state, sort_keys=True)}))


def read(path: Path) -> Checkpoint:
    """Read what `write` wrote.

    Raises:
        CheckpointError: no such file, or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
    except Exception as error:  # safetensors raises its own type, OSError and others for a broken file
        raise CheckpointError(path, str(error)) from error
    if _STATE not in metadata:
        raise CheckpointError(path, "carries no state")
    return Checkpoint(tensors, json.loads(metadata[_STATE]))


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimiser's state as tensors named `<parameter index>.<key>`, and its parameter groups as JSON values."""
    packed = optimizer.state_dict()
    tensors = {f"{index}.{key}": value for index, state in packed["state"].items() for key, value in state.items()}
    return tensors, packed["param_groups"]


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Restore what `pack_optimizer` took, each moment in its parameter's memory layout."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        parameter = parameters[int(index)]
        laid_out = torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
        state.setdefault(int(index), {})[key] = laid_out.detach()
    for group in groups:
        if "betas" in group:
            group["betas"] = tuple(group["betas"])  # JSON made it a list
    optimizer.load_state_dict({"state": state, "param_groups": groups})
