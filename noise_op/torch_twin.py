"""The operator in torch, with gradients: the same draws as the exported graph makes.

A network holds `GaussianNoise` modules and runs inside `drawing(Draws(...))`, which says what every
site of one forward pass draws with. On the CPU the native kernel computes (float32 and bfloat16,
contiguous and channels-last), on a CUDA device `triton_philox` where Triton is installed (torch brings it
along there); elsewhere, or without a kernel, `torch_philox` does.
"""

import ctypes
import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisevote.noise_op import torch_philox
from noisevote.noise_op.contract import ACTIVATIONS, MAX_SITE, MAX_STEP, MAX_VOTE, OP_VERSION, Activation
from noisevote.noise_op.layout import IMAGE_RANK, dense, layout
from noisevote.noise_op.library import Batch, Kernel, Team, load_kernel


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
    y: Tensor = _gaussian_noise(x, draws.sigma, draws.seed, draws.vote, row, step, site, activation)
    return y


@torch.library.custom_op("noisevote::gaussian_noise", mutates_args=())
def _gaussian_noise(
    x: Tensor, sigma: Tensor, seed: Tensor, vote: Tensor, row: Tensor | None, step: Tensor | None, site: int,
    activation: str,
) -> Tensor:  # fmt: skip  # the inputs of the operator, then its attributes
    rows = sigma.shape[0]
    if row is None and x.shape[0] != rows:
        raise ValueError(f"x: {x.shape[0]} rows and sigma: {rows} differ and no row index was given")
    number = 0 if step is None else int(step)
    if not 0 <= number <= MAX_STEP:
        raise ValueError(f"step: {number} is not within 0 .. {MAX_STEP}")
    if x.device.type == "cpu":  # elsewhere a look at the values would wait for the device at every site
        _check_range("vote", vote, MAX_VOTE)
        if row is not None:
            _check_range("row", row, x.shape[0] - 1)
    kernel = load_kernel() if x.device.type == "cpu" else None
    if kernel is None:
        return _portable(x).gaussian_noise(x, sigma, seed, vote, row, number, site, activation == "relu")  # type: ignore[no-any-return]  # a module chosen at run time
    x = dense(x)
    y = torch.empty((rows, *x.shape[1:]), dtype=x.dtype, memory_format=layout(x))
    held = _Held(x, sigma, seed, vote, row, number, site, activation == "relu")
    kernel.forward(held.batch, x.dtype == torch.bfloat16, x.data_ptr(), y.data_ptr(), _team())
    return y


def _portable(x: Tensor) -> Any:
    """The module that computes where no native kernel does: `triton_philox` or `torch_philox`."""
    return _triton() or torch_philox if x.is_cuda else torch_philox


@cache
def _triton() -> Any:
    try:
        return importlib.import_module("noisevote.noise_op.triton_philox")
    except ImportError:
        return None


def _check_range(name: str, values: Tensor, last: int) -> None:
    """Refuse what does not fit a counter word, or what would be read outside of x."""
    if values.numel() == 0:
        return
    least, most = int(values.min()), int(values.max())
    if least < 0 or most > last:
        raise ValueError(f"{name}: {least} .. {most} is not within 0 .. {last}")


@_gaussian_noise.register_fake
def _(
    x: Tensor, sigma: Tensor, seed: Tensor, vote: Tensor, row: Tensor | None, step: Tensor | None, site: int,
    activation: str,
) -> Tensor:  # fmt: skip  # as above
    x = dense(x)
    return torch.empty((sigma.shape[0], *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=layout(x))


@torch.library.custom_op("noisevote::gaussian_noise_gradient", mutates_args=())
def _gradient(
    g: Tensor, x: Tensor, y: Tensor, sigma: Tensor, seed: Tensor, vote: Tensor, row: Tensor | None, relu: bool
) -> Tensor:
    kernel = load_kernel() if x.device.type == "cpu" else None
    if kernel is None:
        return _portable(x).gradient(g, x, y, sigma, row, relu)  # type: ignore[no-any-return]  # as above
    return _kernel_gradient(kernel, g, x, y, sigma, seed, vote, row, relu)


def _kernel_gradient(
    kernel: Kernel, g: Tensor, x: Tensor, y: Tensor, sigma: Tensor, seed: Tensor, vote: Tensor, row: Tensor | None,
    relu: bool,
) -> Tensor:  # fmt: skip  # one line of operands, one of results
    x = dense(x)
    memory = layout(x)
    g = g.to(x.dtype).contiguous(memory_format=memory)
    y = y.contiguous(memory_format=memory)
    gx = torch.empty_like(y, memory_format=memory)
    held = _Held(x, sigma, seed, vote, row, 0, 0, relu)
    kernel.backward(
        held.batch, x.dtype == torch.bfloat16, x.data_ptr(), y.data_ptr(), g.data_ptr(), gx.data_ptr(),
        _team(),
    )  # fmt: skip
    if row is None:
        return gx
    return torch.zeros_like(x, memory_format=memory).index_add_(0, row, gx)


@_gradient.register_fake
def _(
    g: Tensor, x: Tensor, y: Tensor, sigma: Tensor, seed: Tensor, vote: Tensor, row: Tensor | None, relu: bool
) -> Tensor:
    return torch.empty_like(dense(x))


def _remember(ctx, inputs, output):  # type: ignore[no-untyped-def]  # torch gives its context no public type
    x, sigma, seed, vote, row, _, _, activation = inputs
    ctx.save_for_backward(x, output, sigma, seed, vote, row)
    ctx.relu = activation == "relu"


def _backward(ctx, g):  # type: ignore[no-untyped-def]  # torch gives its context no public type
    x, y, sigma, seed, vote, row = ctx.saved_tensors
    return _gradient(g, x, y, sigma, seed, vote, row, ctx.relu), None, None, None, None, None, None, None


_gaussian_noise.register_autograd(_backward, setup_context=_remember)


@cache
def _gomp_parallel() -> int | None:
    """Address of GOMP_parallel in the OpenMP runtime that torch brings along; None where it uses another one."""
    runtime = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
    try:
        return ctypes.cast(ctypes.CDLL(str(runtime)).GOMP_parallel, ctypes.c_void_p).value
    except (OSError, AttributeError):
        return None


def _team() -> Team:
    """Torch's own threads: it has just used them, and they would otherwise spin beside ours."""
    return Team(torch.get_num_threads(), _gomp_parallel())


class _Held:
    """A native batch together with the tensors that its addresses point into."""

    def __init__(
        self, x: Tensor, sigma: Tensor, seed: Tensor, vote: Tensor, row: Tensor | None, step: int, site: int, relu: bool
    ) -> None:
        rows = sigma.shape[0]
        self._sigma = sigma.to(torch.float32).contiguous()
        self._seed = seed.to(torch.int64).contiguous()
        self._vote = vote.to(torch.int64).contiguous()
        self._row = None if row is None else row.to(torch.int64).contiguous()
        if self._sigma.shape != (rows, 2) or self._seed.shape != (rows,) or self._vote.shape != (rows,):
            raise ValueError(f"sigma {tuple(sigma.shape)}, seed {tuple(seed.shape)}, vote {tuple(vote.shape)}: "
                             "must be [rows, 2], [rows] and [rows]")  # fmt: skip
        channels = x.shape[1] if x.dim() == IMAGE_RANK else 1
        self.batch = Batch(
            rows=rows,
            channels=channels,
            positions=x[0].numel() // channels if x.numel() else 0,
            channels_last=layout(x) is torch.channels_last,
            sigma=self._sigma.data_ptr(),
            seed=self._seed.data_ptr(),
            vote=self._vote.data_ptr(),
            source=None if self._row is None else self._row.data_ptr(),
            site=site,
            step=step,
            relu=relu,
            version=OP_VERSION,
        )
