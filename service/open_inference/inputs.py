"""Makes the tensor `input` of a request the inputs of a model."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from noisevote.model_store.manifest import InputSpec
from noisevote.service.errors import InvalidValueError
from noisevote.service.open_inference.call import Tensor
from noisevote.service.open_inference.datatypes import BYTES, elements, numbers, texts
from noisevote.service.prediction.base64_text import base64_bytes
from noisevote.service.prediction.inputs import decode_array, decode_file, preprocessed_files

INPUT: Final = "input"
DATATYPE: Final = "FP32"
KEY: Final = f"inputs.{INPUT}"
# Values of these are taken as they are, those of UINT8 are scaled onto the value range, BYTES are image files.
FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})
PIXELS: Final = "UINT8"


def count(tensor: Tensor) -> int:
    """How many inputs a tensor has.

    Raises:
        InvalidValueError: none, or its datatype is none of those that are read.
    """
    if tensor.datatype not in FLOATS | {PIXELS, BYTES}:
        problem = f"{tensor.datatype!r} is not one of {', '.join(sorted(FLOATS))}, {PIXELS} and {BYTES}"
        raise InvalidValueError(f"{KEY}.datatype", problem)
    if tensor.shape is None:
        return 1
    if not tensor.shape or not tensor.shape[0]:
        raise InvalidValueError(f"{KEY}.shape", f"{list(tensor.shape)}; the first axis counts inputs, one at least")
    return tensor.shape[0]


def decode(tensor: Tensor, spec: InputSpec, *, preprocess: bool = False) -> NDArray[np.float32]:
    """All inputs as float32 [n, *spec.shape], finite and inside the value range.

    `preprocess`: they are images, of any size, to be made inputs as the manifest declares.

    Raises:
        InvalidValueError: they cannot be used; the message names the first value or input that is wrong.
    """
    if preprocess:
        if tensor.datatype != BYTES:
            raise InvalidValueError(
                "preprocess", f"true beside {tensor.datatype}; it is for images, of datatype {BYTES}"
            )
        return preprocessed_files(_files(tensor), spec, KEY)
    if tensor.datatype == BYTES:
        files = enumerate(_files(tensor))
        return np.stack([decode_file(content, spec, f"{KEY}[{index}]") for index, content in files])
    shape = _shape(tensor, spec)
    values = numbers(tensor, KEY)
    if values.size != math.prod(shape):
        wanted = math.prod(shape) * values.itemsize
        problem = f"{values.nbytes} bytes; one {tensor.datatype} input of shape {list(spec.shape)} has {wanted}"
        raise InvalidValueError(KEY, problem)
    return decode_array(_padded(values.reshape(shape), spec), spec, KEY)


def _shape(tensor: Tensor, spec: InputSpec) -> tuple[int, ...]:
    """The tensor's own shape, if the model takes it; a sequence may be of any length where the manifest pads it."""
    if tensor.shape is None:
        return (1, *spec.shape)
    found = tensor.shape[1:]
    free = 1 if spec.padding is not None and len(found) == len(spec.shape) and found[0] else 0
    if found[free:] != spec.shape[free:] or len(found) != len(spec.shape):
        wanted = [tensor.shape[0], *spec.shape]
        raise InvalidValueError(f"{KEY}.shape", f"{list(tensor.shape)}; the model takes {wanted}")
    return tensor.shape


def _padded(inputs: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    """Sequences in the model's length: cut, or with their last element repeated."""
    missing = spec.shape[0] - inputs.shape[1]
    if missing <= 0:
        return inputs[:, : spec.shape[0]]
    return np.concatenate((inputs, np.repeat(inputs[:, -1:], missing, axis=1)), axis=1)


def _files(tensor: Tensor) -> list[bytes]:
    """Image files: as they are in a binary tensor, in base64 in JSON."""
    if tensor.raw is not None:
        return texts(tensor, KEY)
    return [base64_bytes(text, f"{KEY}[{index}]") for index, text in enumerate(elements(tensor, KEY))]
