"""Seconds of one training step: without noise, with the kernel's noise, with torch.randn_like.

Everything is channels-last. The time of an epoch is the number of steps times this.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.timing import in_turns
from noisevote.noise_op.torch_twin import Draws, GaussianNoise, drawing
from noisevote.training.networks.registry import build

BATCH = 128
ROUNDS = 9


class _RandnLike(nn.Module):
    """Multiplicative noise at sigma 1 as one writes it in eager torch."""

    def __init__(self, relu: bool) -> None:
        super().__init__()
        self.relu = relu

    def forward(self, x: Tensor, _: Tensor | None = None) -> Tensor:
        y = x + x * torch.randn_like(x)
        return torch.relu(y) if self.relu else y


class _Silence(nn.Module):
    """No noise."""

    def __init__(self, relu: bool) -> None:
        super().__init__()
        self.relu = relu

    def forward(self, x: Tensor, _: Tensor | None = None) -> Tensor:
        return torch.relu(x) if self.relu else x


def measure() -> dict[str, float]:
    """Milliseconds a step and ratios to the noiseless step, in float32 and under bfloat16 autocast."""
    figures: dict[str, float] = {}
    network = build("mnist-cnn", "multiplicative").to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload torch leaves out
    plain = {"no noise": _replaced(network, _silent), "randn_like": _replaced(network, _eager)}
    for precision in (torch.float32, torch.bfloat16):
        contenders = {name: _stepping(variant, precision) for name, variant in plain.items()}
        contenders["our noise"] = _stepping(network, precision)
        timings = in_turns(contenders, ROUNDS)
        name = str(precision).removeprefix("torch.")
        for contender in contenders:
            figures[f"{contender}, {name} (ms)"] = timings.median(contender) * 1e3
        for contender in ("our noise", "randn_like"):
            figures[f"{contender} ÷ no noise, {name}"] = timings.ratio(contender, "no noise")
    return figures


def _silent(site: GaussianNoise) -> nn.Module:
    return _Silence(site.activation == "relu")


def _eager(site: GaussianNoise) -> nn.Module:
    return _RandnLike(site.activation == "relu")


def _replaced(network: nn.Module, make: Callable[[GaussianNoise], nn.Module]) -> nn.Module:
    """A copy of the network with every noise site replaced."""
    changed = copy.deepcopy(network)
    for module in list(changed.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, GaussianNoise):
                setattr(module, name, make(child))
    return changed


def _stepping(network: nn.Module, precision: torch.dtype) -> Callable[[], None]:
    network = copy.deepcopy(network).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, 1, 28, 28, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH,), generator=generator)
    sigma = torch.tensor([[1.0, 0.0]]).repeat(BATCH, 1)
    draws = Draws(sigma, torch.zeros(BATCH, dtype=torch.int64), torch.arange(BATCH))

    def step() -> None:
        with drawing(draws), torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = cross_entropy(network(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        optimizer.step()

    return step
