"""The operator as torch knows it: what computes it and its gradient on which device, and its shapes.

On the CPU the native kernel computes (float32 and bfloat16, contiguous and channels-last), on a CUDA device
`triton_philox` where Triton is installed (torch brings it along there); elsewhere, or without a kernel, `torch_philox`
does.
"""

import ctypes
import importlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisevote.noise_op import torch_philox
from noisevote.noise_op.contract import MAX_STEP, MAX_VOTE, OP_VERSION
from noisevote.noise_op.layout import IMAGE_RANK, dense, layout
from noisevote.noise_op.library import Batch, Kernel, Team, load_kernel


@torch.library.custom_op("noisevote::gaussian_noise", mutates_args=())
def noisy_signal(
    x: Tensor, sigma: Tensor, seed: Tensor, vote: Tensor, row: Tensor | None, step: Tensor | None, site: int,
    activation: str,
) -> Tensor:  # fmt: skip  # the inputs of the operator, then its attributes
    """The operator, [N, ...] → [R, ...], as a node of torch's graphs; `torch_twin.gaussian_noise` is for people.

    Raises:
        ValueError: rows, step, votes or row numbers are none that the operator takes.
    """
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
    kernel.forward(held.batch, x.dtype == torch.bfloat16, x.data_ptr(), y.data_ptr(), torch_team())
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


@noisy_signal.register_fake
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
        torch_team(),
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


noisy_signal.register_autograd(_backward, setup_context=_remember)


@cache
def _gomp_parallel() -> int | None:
    """Address of GOMP_parallel in the OpenMP runtime that torch brings along; None where it uses another one."""
    runtime = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
    try:
        return ctypes.cast(ctypes.CDLL(str(runtime)).GOMP_parallel, ctypes.c_void_p).value
    except (OSError, AttributeError):
        return None


def torch_team() -> Team:
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
