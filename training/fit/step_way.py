"""Which way of computing a step is the faster one: see `Network.shared_norms`.

On a graphics card that depends on the card and on the versions of libraries, so it is measured where the training runs.
"""

import time
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from noisevote.noise_op.torch_twin import Draws
from noisevote.training.fit.gradients import Compute, Gradients
from noisevote.training.runs.run_folder import RunFolder

STEPS: Final = 10  # of each way by turns, three times


def faster_way(
    computed: Gradients, given: tuple[Tensor, Tensor, Draws], folder: RunFolder, made_of: Callable[[Gradients], Compute]
) -> Compute:
    """Measure both ways on one batch, leave the network on the faster one, and return what computes it, made anew.

    Anew, since what was recorded of one way puts gradients where the network had them then, and recording the other way
    has moved them.

    The network's gradients are of no use afterwards; all else of it is as before. The log says what a step took, in
    milliseconds without the optimiser; a way that fails is not taken.

    Args:
        computed: of the network.
        given: inputs, labels and draws of a batch.
        folder: whose log says it.
        made_of: makes what computes a step on the device, and records what it does at its first batch.
    """
    network = computed.network
    before = {name: tensor.clone() for name, tensor in network.named_buffers()}
    ways: dict[bool, Compute] = {}
    failed: dict[str, str] = {}
    for shared in (False, True):
        network.shared_norms = shared
        try:
            ways[shared] = made_of(computed)
            ways[shared](*given)
        except Exception as error:  # compilers of kernels raise errors of their own types
            if not shared:
                raise
            ways.pop(shared, None)
            failed = {"failed": f"{type(error).__name__}: {error}"}
    milliseconds = {shared: float("inf") for shared in ways}
    for _ in range(3):
        for shared, compute in ways.items():
            network.shared_norms = shared
            milliseconds[shared] = min(milliseconds[shared], _milliseconds(compute, given))
    network.shared_norms = fastest = min(milliseconds, key=milliseconds.__getitem__)
    with torch.no_grad():
        for name, tensor in network.named_buffers():
            tensor.copy_(before[name])
    told = {("shared" if shared else "plain"): round(took, 3) for shared, took in milliseconds.items()}
    folder.append("step", milliseconds=told, shared_norms=fastest, **failed)
    network.zero_grad()
    return made_of(computed)


def _milliseconds(compute: Compute, given: tuple[Tensor, Tensor, Draws]) -> float:
    _wait(given[0].device)
    started = time.perf_counter()
    for _ in range(STEPS):
        compute(*given)
    _wait(given[0].device)
    return 1000 * (time.perf_counter() - started) / STEPS


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
