"""The operator in torch, with gradients: the same draws as the exported graph makes.

A network holds `GaussianNoise` modules and runs inside `drawing(Draws(...))`, which says what every
site of one forward pass draws with. What computes is in `torch_operator`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noisevote.noise_op.contract import ACTIVATIONS, MAX_SITE, Activation
from noisevote.noise_op.torch_operator import noisy_signal


class NoDrawsError(RuntimeError):
    """A noise site, or `fanned_out`, ran outside `drawing(...)`; it is never silently noiseless."""

    def __init__(self, place: str) -> None:
        super().__init__(f"{place}: no draws are set; run the network inside `with drawing(Draws(...)):`")


@dataclass(frozen=True)
class Draws:
    """What the sites of one forward pass draw with, for R rows.

    Attributes:
        sigma: float32 [R, 2], multiplicative and additive standard deviation of each row.
        seed: int64 [R], 64 unsigned bits each: the Philox key.
        vote: int64 [R], 0 <= vote < 2^32.
        row: int64 [R], which input each row reads, at the site made with `fan_out=True`; None: identity.
        step: time step of a recurrent network.
        output: what the site made with `output=True` draws with instead, where it answers several times for each row
            (its `row` says for which); training averages such answers, which cost next to nothing.
    """

    sigma: Tensor
    seed: Tensor
    vote: Tensor
    row: Tensor | None = None
    step: int = 0
    output: "Draws | None" = None


_current = threading.local()


@contextmanager
def drawing(draws: Draws) -> Iterator[None]:
    """Every `GaussianNoise` module that runs inside draws with `draws`."""
    before = getattr(_current, "draws", None)
    _current.draws = draws
    try:
        yield
    finally:
        _current.draws = before


def current_draws() -> Draws | None:
    """What the surrounding `drawing` draws with; None outside of one."""
    return getattr(_current, "draws", None)


def _draws(place: str) -> Draws:
    draws = current_draws()
    if draws is None:
        raise NoDrawsError(place)
    return draws


def fanned_out(x: Tensor) -> Tensor:
    """Vote fan-out where no site can do it: row r gets x[row[r]], [N, ...] → [R, ...], without noise.

    A recurrent network needs it: later steps mix what every vote of an input shares with what each has of its own.

    Raises:
        NoDrawsError: outside `drawing`.
    """
    row = _draws("fan-out").row
    return x if row is None else x.index_select(0, row)


def fanned_out_rows(x: Any) -> Any:
    """A tensor's rows for every vote, as `fanned_out`; an argument that is no tensor is the same for all."""
    return fanned_out(x) if isinstance(x, Tensor) else x


class GaussianNoise(nn.Module):
    """One site. `fan_out=True` belongs on the first site of a network: it turns inputs into rows.

    `output=True` belongs on the last one: it may answer several times for each row, see `Draws.output`.
    """

    def __init__(self, site: int, activation: Activation = "none", fan_out: bool = False, output: bool = False) -> None:
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: {activation!r} is not one of {ACTIVATIONS}")
        if not 0 <= site <= MAX_SITE:
            raise ValueError(f"site: {site} is outside 0 .. {MAX_SITE}")
        super().__init__()
        self.site = site
        self.activation: Activation = activation
        self.fan_out = fan_out
        self.output = output

    def forward(self, x: Tensor, step: Tensor | None = None) -> Tensor:
        """Add this site's noise to x, [N, ...] → [R, ...], at a time step (int64 [], by default the draws' own)."""
        draws, fan_out = _draws(f"site {self.site}"), self.fan_out
        if self.output and draws.output is not None:
            draws, fan_out = draws.output, True
        return gaussian_noise(x, draws, site=self.site, activation=self.activation, fan_out=fan_out, step=step)

    def extra_repr(self) -> str:
        """What `print(network)` shows."""
        return f"site={self.site}, activation={self.activation!r}, fan_out={self.fan_out}, output={self.output}"


def gaussian_noise(
    x: Tensor,
    draws: Draws,
    *,
    site: int,
    activation: Activation = "none",
    fan_out: bool = False,
    step: Tensor | None = None,
) -> Tensor:
    """act(x + sqrt((sigma0·x)² + sigma1²)·z) with this site's draws, differentiable in x.

    Args:
        x: float32 or bfloat16 [N, ...], contiguous or channels-last; the layout is kept.
        draws: what to draw with.
        site: number of the site.
        activation: fused into the operator.
        fan_out: read row `draws.row[r]` of x for row r, where `draws.row` is given.
        step: int64 [], in place of `draws.step`: in an exported loop the step is a tensor.

    Returns:
        [R, ...] of x's type.
    """
    row = draws.row if fan_out else None
    if step is None and draws.step != 0:
        step = torch.tensor(draws.step)
    y: Tensor = noisy_signal(x, draws.sigma, draws.seed, draws.vote, row, step, site, activation)
    return y
