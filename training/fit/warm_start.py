"""Training that starts from weights that were trained before: those of a finished run, or of a published file."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.errors import TrainingError
from noisevote.training.networks.layers import NoisyLayer
from noisevote.training.networks.network import Network
from noisevote.training.noise.draws import constant_draws, laid_out
from noisevote.training.noise.silent import silent
from noisevote.training.runs.run_folder import RunFolder

INPUTS = 512  # that the batch norms of a published file are found with
GRAPH_PREFIX = "network."  # of the names that the exporter gives to weights


class WarmStartError(TrainingError):
    """The weights cannot be used."""

    def __init__(self, place: Path, why: str) -> None:
        super().__init__(f"init {place}: {why}")


def start_from(network: Network, place: Path, inputs: Tensor, draws: Draws | None = None) -> None:
    """Give `network` the weights of a finished run folder, or of an exported file `….onnx`.

    A published file has its batch norms folded into the products before them. There each norm gets the mean
    and deviation of what `inputs` bring to it, and the scale and shift that undo this, so that the network
    computes what the file does; a norm without scale and shift keeps the weights' own.

    Args:
        network: on the CPU; it is left in evaluation mode.
        place: the run folder or the file.
        inputs: some training inputs, [n, *input_shape].
        draws: the noise that the norms of a published file are found under, n rows; none: noiseless.

    Raises:
        WarmStartError: the file cannot be read, or is of another network.
        NoRunError: the folder holds no run.
        CheckpointError: the folder's run is not finished.
    """
    if place.suffix == ".onnx":
        _from_file(network, place, inputs, draws)
    else:
        _load(network, place, RunFolder(place).read_network().state_dict())


def _from_file(network: Network, file: Path, inputs: Tensor, draws: Draws | None) -> None:
    stored = _stored(file)
    folded: dict[BatchNorm, Tensor] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, NoisyLayer) and layer.norm is not None and f"{name}.product.bias" in stored:
            folded[layer.norm] = stored.pop(f"{name}.product.bias")
    kept = {
        f"{name}.{key}": tensor
        for name, module in network.named_modules()
        if module in folded
        for key, tensor in module.state_dict().items()
    }
    own = {name: tensor for name, tensor in network.named_buffers() if name not in stored}  # the input's normalisation
    _load(network, file, {**own, **kept, **stored})
    _undo(network, folded, inputs, draws)


def _stored(file: Path) -> dict[str, Tensor]:
    """The weights of a file by the names that they have in the network."""
    try:
        graph = onnx.load(str(file)).graph
    except Exception as error:  # onnx raises OSError and protobuf's own types
        raise WarmStartError(file, str(error)) from error
    return {
        weights.name.removeprefix(GRAPH_PREFIX): torch.from_numpy(numpy_helper.to_array(weights).copy())
        for weights in graph.initializer
        if weights.name.startswith(GRAPH_PREFIX)
    }


def _load(network: Network, place: Path, state: dict[str, Tensor]) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:  # torch names every tensor that is missing, left over or of another shape
        raise WarmStartError(place, f"is of another network: {error}") from error


@torch.no_grad()
def _undo(network: Network, folded: dict[BatchNorm, Tensor], inputs: Tensor, draws: Draws | None) -> None:
    """One pass; each norm is set before it computes, so that the next one sees the right signal."""

    def settle(norm: nn.Module, signals: tuple[Any, ...]) -> None:
        assert isinstance(norm, BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        rows = signals[0].transpose(0, 1).flatten(1)  # [channels, all positions of all inputs]
        norm.running_mean.copy_(rows.mean(dim=1))
        norm.running_var.copy_(rows.var(dim=1, unbiased=False))
        if norm.affine:
            norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps))
            norm.bias.copy_(norm.running_mean + folded[norm])

    hooks = [norm.register_forward_pre_hook(settle) for norm in folded]
    noiseless = constant_draws("multiplicative", 0.0, 0, len(inputs), 0)
    with silent(network) if draws is None else nullcontext(), drawing(draws or noiseless):
        network.eval()(laid_out(inputs))
    for hook in hooks:
        hook.remove()
