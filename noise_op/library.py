"""Finds, loads and registers the native kernel.

The kernel is one shared library beside this file. ONNX Runtime loads it by path as a custom operator
library; the torch twin calls the same code through ctypes. Where it was not built (no C++ compiler at
install), everything still works on the ONNX function body, several times slower, after one warning.
"""

import ctypes
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from noisevote.noise_op.contract import OP_VERSION, PER_BLOCK, OperatorVersion

LIBRARY_FILE: Final = Path(__file__).parent / "libnoisevote_kernel.so"
ISAS: Final = ("avx512", "avx2", "portable")


class NoKernelWarning(RuntimeWarning):
    """The native kernel is not there; the ONNX function body computes the noise instead."""


class UnknownIsaError(ValueError):
    """An instruction set was asked for by name that this processor cannot run."""

    def __init__(self, isa: str) -> None:
        super().__init__(f"isa: {isa!r} cannot run here; known names are {', '.join(ISAS)}")
        self.isa = isa


class SessionOptions(Protocol):
    """The one method of `onnxruntime.SessionOptions` that registration needs."""

    def register_custom_ops_library(self, path: str) -> Any:
        """Load the operator library at `path` for sessions made with these options."""


class Batch(ctypes.Structure):
    """The native `Batch` (layout.h): how a batch lies in memory and what each row draws with."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("positions", ctypes.c_int64),
        ("channels_last", ctypes.c_bool),
        ("sigma", ctypes.c_void_p),
        ("seed", ctypes.c_void_p),
        ("vote", ctypes.c_void_p),
        ("source", ctypes.c_void_p),
        ("site", ctypes.c_int64),
        ("step", ctypes.c_int64),
        ("relu", ctypes.c_bool),
        ("version", ctypes.c_int64),
    )


class Bytes(ctypes.Structure):
    """The native `Quantization` (stream.h): how signals of 8 bits are read and written."""

    _fields_ = (
        ("scale", ctypes.c_float),
        ("rate", ctypes.c_float),
        ("zero_point", ctypes.c_int32),
        ("y_zero_point", ctypes.c_int32),
    )


class Team(ctypes.Structure):
    """The native `Team`: so many threads, of the OpenMP runtime with that GOMP_parallel or (None) new ones."""

    _fields_ = (("threads", ctypes.c_int), ("gomp_parallel", ctypes.c_void_p))


class Blocks(NamedTuple):
    """So many counter blocks from number `first` on: what addresses draws, in the order of the native functions."""

    seed: int
    site: int
    vote: int
    step: int
    first: int
    blocks: int

    def signed(self) -> Self:
        """The same, with the signed reading of the seed's 64 bits."""
        return self._replace(seed=(self.seed + 2**63) % 2**64 - 2**63)


@dataclass(frozen=True)
class Kernel:
    """A loaded kernel. `isa` is the instruction set that it picked on this processor."""

    path: Path
    isa: str
    _native: ctypes.CDLL

    def register(self, options: SessionOptions) -> None:
        """Make sessions created with `options` run GaussianNoise nodes on this kernel."""
        options.register_custom_ops_library(str(self.path))

    def isas(self) -> tuple[str, ...]:
        """The instruction sets that can run here, widest first."""
        return tuple(isa for isa in ISAS if self._native.noisevote_has_isa(isa.encode()))

    def words(self, of: Blocks, isa: str | None = None, version: OperatorVersion = OP_VERSION) -> NDArray[np.uint32]:
        """Philox words of these blocks: uint32 [of.blocks, 4]."""
        out = np.empty((of.blocks, 4), np.uint32)
        self._call(self._native.noisevote_words, isa, version, *of.signed(), out.ctypes.data)
        return out

    def normals(
        self,
        of: Blocks,
        isa: str | None = None,
        version: OperatorVersion = OP_VERSION,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Normals of these blocks, in the order of the elements: float32 [4 * of.blocks], in version 2 [8 * of.blocks].

        They are written to `out`, if it is given; it must have that many elements.
        """
        count = PER_BLOCK[version] * of.blocks
        out = np.empty(count, np.float32) if out is None else out
        if (out.dtype, out.size, out.flags.c_contiguous) != (np.dtype(np.float32), count, True):
            raise ValueError(f"out: {out.size} elements of {out.dtype}; {count} of float32 in a row are needed")
        self._call(self._native.noisevote_normals, isa, version, *of.signed(), out.ctypes.data)
        return out

    def forward(self, batch: Batch, bf16: bool, x: int, y: int, team: Team, isa: str | None = None) -> None:
        """Run the operator on the arrays at addresses `x` and `y`, laid out as `batch` says."""
        self._call(self._native.noisevote_forward, isa, ctypes.byref(batch), bf16, x, y, ctypes.byref(team))

    def forward_bytes(self, batch: Batch, how: Bytes, x: int, y: int, team: Team, isa: str | None = None) -> None:
        """Run QuantizedNoise on the arrays at addresses `x` and `y`, laid out as `batch` says."""
        self._call(self._native.noisevote_forward_bytes, isa, ctypes.byref(batch), ctypes.byref(how), x, y,
                   ctypes.byref(team))  # fmt: skip

    def backward(
        self, batch: Batch, bf16: bool, x: int, y: int, g: int, gx: int, team: Team, isa: str | None = None
    ) -> None:
        """Write to `gx` the gradient at `g` times the operator's slope, from its input `x` and output `y`."""
        self._call(self._native.noisevote_backward, isa, ctypes.byref(batch), bf16, x, y, g, gx, ctypes.byref(team))

    @staticmethod
    def _call(function: Callable[..., int], isa: str | None, *arguments: Any) -> None:
        if function(None if isa is None else isa.encode(), *arguments) != 0:
            raise UnknownIsaError(str(isa))


def open_kernel(path: Path) -> Kernel:
    """Load the library at `path`; OSError if it is missing or cannot be loaded."""
    native = ctypes.CDLL(str(path))
    address: Any = ctypes.c_void_p
    int64, text = ctypes.c_int64, ctypes.c_char_p
    draw: list[Any] = [text, int64, int64, int64, int64, int64, ctypes.c_uint32, ctypes.c_size_t, address]
    batch, team = ctypes.POINTER(Batch), ctypes.POINTER(Team)
    native.noisevote_isa.restype = text
    native.noisevote_has_isa.argtypes = [text]
    native.noisevote_words.argtypes = draw
    native.noisevote_normals.argtypes = draw
    native.noisevote_forward.argtypes = [text, batch, ctypes.c_int, address, address, team]
    native.noisevote_forward_bytes.argtypes = [text, batch, ctypes.POINTER(Bytes), address, address, team]
    native.noisevote_backward.argtypes = [text, batch, ctypes.c_int, address, address, address, address, team]
    return Kernel(path, native.noisevote_isa().decode(), native)


@cache
def load_kernel() -> Kernel | None:
    """The kernel built at install, or None after one `NoKernelWarning` where there is none."""
    try:
        return open_kernel(LIBRARY_FILE)
    except OSError as error:
        warnings.warn(
            "noise_op: the native kernel is not available, so noise is computed by the portable ONNX function body, "
            f"many times slower. Install a C++ compiler and install noisevote again. ({error})",
            NoKernelWarning,
            stacklevel=2,
        )
        return None
