"""Looks through the bytes of an ONNX file for what must not be there, before ONNX Runtime sees them.

Data that lie in other files: ONNX Runtime would read them from the working directory, and no hash covers them. And
weights that are not numbers, which some operators swallow, so that the network answers confidently and wrongly.

What is read is the wire format of Protocol Buffers alone (https://protobuf.dev/programming-guides/encoding/): every
tensor, wherever in graphs, subgraphs, functions and attributes it lies. Nothing is built from the bytes.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.errors import BadModelError

# Which fields of a message hold messages with tensors inside, by their numbers in onnx.proto.
TENSOR: Final = "TensorProto"
INSIDE: Final[dict[str, dict[int, str]]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: TENSOR, 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: TENSOR, 6: "GraphProto", 10: TENSOR, 11: "GraphProto", 22: "SparseTensorProto", 23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: TENSOR, 2: TENSOR},
}  # fmt: skip
# Fields of a tensor.
_DATA_TYPE, _FLOATS, _INTEGERS, _RAW, _DOUBLES, _EXTERNAL, _LOCATION = 2, 4, 5, 9, 10, 13, 14
# Data types that know values that are not numbers, as they lie in raw data.
_FLOAT16, _BFLOAT16 = 10, 16
_RAW_TYPES: Final = {1: "<f4", _FLOAT16: "<f2", 11: "<f8", _BFLOAT16: "<u2"}
# ONNX Runtime's own reader of messages goes no deeper.
DEEPEST: Final = 100

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
Value = int | memoryview


def refuse_unsafe(content: bytes) -> None:
    """Do nothing for a file that is self-contained and whose weights are numbers.

    Raises:
        BadModelError: it is not, or it is no ONNX file.
    """
    waiting = [("ModelProto", memoryview(content), 1)]
    while waiting:
        kind, message, depth = waiting.pop()
        if depth > DEEPEST:
            raise BadModelError(f"it is no ONNX file: messages inside messages, deeper than {DEEPEST}")
        if kind == TENSOR:
            _check_tensor(message)
            continue
        inside = INSIDE[kind]
        for number, value in _fields(message):
            if number in inside:
                waiting.append((inside[number], _bytes(value), depth + 1))


def _check_tensor(message: memoryview) -> None:
    data_type = 0
    data = []
    for number, value in _fields(message):
        if number == _EXTERNAL or (number == _LOCATION and value != 0):
            raise BadModelError("some of its data lie outside the file (ONNX external data)")
        if number == _DATA_TYPE:
            data_type = _int(value)
        elif number in (_FLOATS, _INTEGERS, _RAW, _DOUBLES):
            data.append((number, value))
    for number, value in data:
        if _holds_nan(_numbers(number, value, data_type)):
            raise BadModelError("some of its weights are not numbers (NaN)")


def _numbers(number: int, value: Value, data_type: int) -> NDArray[np.generic]:
    """Values of a tensor's data field as floating point numbers; none where its type has no NaN."""
    if number == _FLOATS:
        return _array(value, "<f4")
    if number == _DOUBLES:
        return _array(value, "<f8")
    if number == _RAW and data_type in _RAW_TYPES:
        found = _array(value, _RAW_TYPES[data_type])
        return _wide(found) if data_type == _BFLOAT16 else found
    if number == _INTEGERS and data_type in (_FLOAT16, _BFLOAT16):
        integers = [value] if isinstance(value, int) else list(_varints(value))
        halves = np.array([each & 0xFFFF for each in integers], "<u2")
        return _wide(halves) if data_type == _BFLOAT16 else halves.view("<f2")
    return np.empty(0, "<f4")


def _wide(halves: NDArray[np.generic]) -> NDArray[np.generic]:
    """Bfloat16, given as 16 bits each, as float32."""
    return (halves.astype("<u4") << 16).view("<f4")


def _array(value: Value, dtype: str) -> NDArray[np.generic]:
    data = _bytes(value)
    if len(data) % np.dtype(dtype).itemsize:
        raise _malformed()
    return np.frombuffer(data, dtype)


def _holds_nan(values: NDArray[np.generic]) -> bool:
    with np.errstate(invalid="ignore"):
        return values.size > 0 and bool(np.isnan(values.min()))  # which needs no array of its own


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and content of each field of a message: an integer, or the bytes of anything else."""
    place, end = 0, len(message)
    while place < end:
        key, place = _varint(message, place)
        wire = key & 7
        if wire == _VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            length, place = _varint(message, place)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise _malformed()
        if length > end - place:
            raise _malformed()
        yield key >> 3, message[place : place + length]
        place += length


def _varints(data: memoryview) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _varint(data, place)
        yield value


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """An integer of seven bits a byte, and the place behind it."""
    value = 0
    for index, byte in enumerate(message[place : place + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, place + index + 1
    raise _malformed()


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise _malformed()
    return value


def _int(value: Value) -> int:
    if not isinstance(value, int):
        raise _malformed()
    return value


def _malformed() -> BadModelError:
    return BadModelError("it is no ONNX file: its bytes are no Protocol Buffers message")
