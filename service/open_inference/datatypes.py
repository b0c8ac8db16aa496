"""The protocol's datatypes: their names, and what their elements are on the wire and here."""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from noisevote.service.errors import InvalidValueError
from noisevote.service.open_inference.call import Tensor
from noisevote.service.validation import shown

BYTES: Final = "BYTES"
NUMBERS: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("?"),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
NAMES: Final = {dtype: name for name, dtype in NUMBERS.items()}
INTEGERS: Final = frozenset(name for name, dtype in NUMBERS.items() if dtype.kind in "iu")
FLOATS: Final = frozenset(name for name, dtype in NUMBERS.items() if dtype.kind == "f")
LENGTH: Final = struct.Struct("<I")
# What the elements of a JSON tensor may be.
ELEMENTS: Final[Mapping[str, frozenset[type]]] = {"b": frozenset({bool}), "f": frozenset({int, float})}


def elements(tensor: Tensor, key: str) -> list[Any]:
    """All elements of a small tensor as they are in Python, in C order; texts of BYTES are decoded.

    Raises:
        InvalidValueError: it is not what its datatype and shape say.
    """
    if tensor.datatype != BYTES:
        return list(numbers(tensor, key).tolist())
    if tensor.raw is not None:
        return [_text(each, key) for each in texts(tensor, key)]
    flat = _flat(tensor, key)
    for each in flat:
        if not isinstance(each, str):
            raise InvalidValueError(key, f"{shown(each)} is no text, as a JSON element of BYTES is")
    return flat


def numbers(tensor: Tensor, key: str) -> NDArray[Any]:
    """All elements of a tensor of numbers, [size] or, where it says no shape, as many as there are.

    Raises:
        InvalidValueError: as above.
    """
    dtype = NUMBERS.get(tensor.datatype)
    if dtype is None:
        known = ", ".join((*NUMBERS, BYTES))
        raise InvalidValueError(f"{key}.datatype", f"{shown(tensor.datatype)} is not one of {known}")
    if tensor.raw is not None:
        return _unpacked(tensor, dtype, key)
    flat = _flat(tensor, key)
    allowed = ELEMENTS.get(dtype.kind, frozenset({int}))
    if not set(map(type, flat)) <= allowed:
        wrong = next(each for each in flat if type(each) not in allowed)
        raise InvalidValueError(f"{key}.data", f"{shown(wrong)} is no element of {tensor.datatype}")
    try:
        with np.errstate(over="ignore"):  # beyond its float type a number is infinite, which no input may be
            return np.array(flat, dtype if dtype.kind in "iub" else np.float64).astype(dtype)
    except OverflowError:
        wrong = next(each for each in flat if not _fits(each, dtype))
        raise InvalidValueError(f"{key}.data", f"{wrong} does not fit into {tensor.datatype}") from None


def _fits(number: int, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return bool(limits.min <= number <= limits.max)


def texts(tensor: Tensor, key: str) -> list[bytes]:
    """The elements of a binary tensor of BYTES: a length of four bytes each, and as many bytes.

    Raises:
        InvalidValueError: as above.
    """
    assert tensor.raw is not None
    found = list(_lengths_and_bytes(memoryview(tensor.raw), key))
    if tensor.shape is not None and len(found) != math.prod(tensor.shape):
        raise InvalidValueError(key, _miscounted(len(found), tensor.shape))
    return found


def packed(values: NDArray[Any] | Sequence[bytes]) -> bytes:
    """Elements as binary tensors have them."""
    if isinstance(values, np.ndarray):
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return b"".join(LENGTH.pack(len(each)) + each for each in values)


def _lengths_and_bytes(content: memoryview, key: str) -> Iterator[bytes]:
    start = 0
    while start < len(content):
        stop = start + LENGTH.size
        size = LENGTH.unpack(content[start:stop])[0] if stop <= len(content) else len(content)
        if stop + size > len(content):
            raise InvalidValueError(key, f"its last element ends {stop + size - len(content)} bytes after the tensor")
        yield bytes(content[stop : stop + size])
        start = stop + size


def _text(content: bytes, key: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidValueError(key, f"{shown(content)} is no UTF-8") from None


def _unpacked(tensor: Tensor, dtype: np.dtype[Any], key: str) -> NDArray[Any]:
    assert tensor.raw is not None
    size = len(tensor.raw)
    if size % dtype.itemsize or (tensor.shape is not None and size != math.prod(tensor.shape) * dtype.itemsize):
        wanted = "whole elements" if tensor.shape is None else math.prod(tensor.shape) * dtype.itemsize
        problem = f"{size} bytes; {tensor.datatype} of shape {list(tensor.shape or ())} has {wanted}"
        raise InvalidValueError(key, problem)
    return np.frombuffer(tensor.raw, dtype)


def _flat(tensor: Tensor, key: str) -> list[Any]:
    """The elements of a JSON tensor, which are flat or nested in its shape."""
    shape = tensor.shape or ()
    if tensor.data is None:
        raise InvalidValueError(f"{key}.data", "is missing")
    level = tensor.data
    for axis, size in enumerate(shape):
        if axis and not (level and isinstance(level[0], list)):
            break
        if axis:
            _refuse_ragged(level, size, f"{key}.data", shape)
            level = list(chain.from_iterable(level))
    if len(level) != math.prod(shape):
        raise InvalidValueError(f"{key}.data", _miscounted(len(level), shape))
    return level


def _miscounted(found: int, shape: tuple[int, ...]) -> str:
    return f"{found} elements; its shape {list(shape)} has {math.prod(shape)}"


def _refuse_ragged(level: list[Any], size: int, key: str, shape: tuple[int, ...]) -> None:
    for part in level:
        if not isinstance(part, list) or len(part) != size:
            found = f"{len(part)} elements" if isinstance(part, list) else shown(part)
            raise InvalidValueError(key, f"{found} where its shape {list(shape)} has lists of {size}")
