"""`Channels` on a processor: the functions of native/channels.h, several threads sharing the rows."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from noisevote.noise_op.torch_operator import torch_team

LIBRARY_FILE: Final = Path(__file__).parents[1] / "libnoisevote_training.so"
ISAS: Final = ("avx512", "avx2", "portable")


class Span(ctypes.Structure):
    """The native `Span` (channels.h)."""

    _fields_ = (("rows", ctypes.c_int64), ("stride", ctypes.c_int64), ("channels", ctypes.c_int64))


class NativeChannels:
    """The functions of one instruction set; without its name, of the widest that runs here."""

    def __init__(self, native: ctypes.CDLL, isa: str | None = None) -> None:
        self._native = native
        self._isa = None if isa is None else isa.encode()

    def isas(self) -> tuple[str, ...]:
        """The instruction sets that can run here, widest first."""
        return tuple(isa for isa in ISAS if self._native.noisevote_channels_has_isa(isa.encode()))

    def of(self, isa: str) -> "NativeChannels":
        """The functions of an instruction set of `isas`."""
        return NativeChannels(self._native, isa)

    def place(self, x: Tensor, into: Tensor) -> Tensor:
        """As `Channels.place`."""
        sums = torch.empty(2, x.shape[1], dtype=torch.float64)
        self._call(self._native.noisevote_place, into, x, into, sums)
        return sums

    def activate(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """As `Channels.activate`."""
        y = x.new_empty(x.shape)
        self._call(self._native.noisevote_activate, x, x, scale, shift, y)
        return y

    def collect(
        self, g: Tensor, x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, into: Tensor, first: bool
    ) -> Tensor:
        """As `Channels.collect`."""
        sums = torch.empty(2, x.shape[1], dtype=torch.float64)
        self._call(self._native.noisevote_collect, x, g, x, scale, shift, weight, int(first), into, sums)
        return sums

    def through(self, g: Tensor, x: Tensor, gain: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
        """As `Channels.through`."""
        y = x.new_empty(x.shape)
        self._call(self._native.noisevote_through, x, g, x, gain, slope, offset, y)
        return y

    def _call(self, function: Any, strided: Tensor, *arguments: Tensor | int) -> None:
        span = Span(len(strided), strided.stride(0), strided.shape[1])
        given = [at if isinstance(at, int) else ctypes.c_void_p(at.data_ptr()) for at in arguments]
        bf16 = int(strided.dtype == torch.bfloat16)
        if function(self._isa, bf16, ctypes.byref(span), *given, ctypes.byref(torch_team())) != 0:
            raise ValueError(f"isa: {self._isa!r} cannot run here")


@cache
def load() -> NativeChannels | None:
    """The functions built at install; None where there was no compiler, of which `load_kernel` warns."""
    try:
        native = ctypes.CDLL(str(LIBRARY_FILE))
    except OSError:
        return None
    return NativeChannels(native)
