"""Decodes the inputs of a request into one float32 array in the model's value range.

Three forms: nested numbers of the input's shape; `{"b64", "dtype"}`, the bytes of the array; and
`{"image"}`, a PNG or JPEG file. Nothing is resized, cut or clipped: what does not fit is refused,
by a message that names the input and the value. Only where the manifest gives a rule of padding may
nested numbers be a list of any length.
"""

import math
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from noisevote.engine.preprocessing import UnfitImageError, preprocessed
from noisevote.model_store.manifest import InputSpec
from noisevote.service.errors import InvalidValueError
from noisevote.service.prediction.base64_text import base64_bytes
from noisevote.service.prediction.images import decode_any_size, decode_image
from noisevote.service.validation import Body, as_invalid_value, refuse_unknown_keys, shown

IMAGE_AXES: Final = 3  # channels, height, width
IMAGE_CHANNELS: Final = (1, 3)

Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class RawInput(Body):
    """An input as the bytes of its array, C order, little-endian."""

    b64: Base64
    """plain base64, also url-safe, without padding, in lines or as a data URL"""
    dtype: Literal["uint8", "float32", "int32", "int64"]
    """uint8 values 0 … 255 are scaled onto the model's value range, unless it takes whole numbers; others are taken as
    they are"""


class ImageInput(Body):
    """An input as a PNG or JPEG file of exactly the model's height and width, converted to its channels.

    It is turned upright by its EXIF orientation, and its samples are scaled from their own depth, 16 bits by 65535. It
    must be whole and opaque.
    """

    image: Base64
    """the file, in base64 of any kind as for `b64`"""


def decode_inputs(items: list[Any], spec: InputSpec, *, preprocess: bool = False) -> NDArray[np.float32]:
    """All inputs as float32 [n, *spec.shape], finite and inside the value range.

    Args:
        items: as the body has them.
        spec: what the model takes.
        preprocess: they are images, of any size, to be made inputs as the manifest declares.

    Raises:
        InvalidValueError: an input cannot be used; the message names the first such.
    """
    decoded = np.empty((len(items), *spec.shape), np.float32)
    for index, item in enumerate(items):
        place = f"inputs[{index}]"
        decoded[index] = _preprocessed(item, spec, place) if preprocess else _decode(item, spec, place)
    if preprocess or spec.integers or not all(map(_is_scaled, items)):
        _refuse_outside(decoded, spec)
    return decoded


def preprocessed_files(contents: list[bytes], spec: InputSpec, key: str) -> NDArray[np.float32]:
    """Inputs from PNG or JPEG files of any size, as the manifest declares.

    Raises:
        InvalidValueError: a file cannot be used; the message names its place under `key`.
    """
    _refuse_undeclared(spec)
    made = [_preprocessed_file(content, spec, f"{key}[{index}]") for index, content in enumerate(contents)]
    decoded = np.stack(made)
    _refuse_outside(decoded, spec, key)
    return decoded


def _is_scaled(item: Any) -> bool:
    """Its values are ours, so inside the range."""
    return type(item) is dict and ("image" in item or item["dtype"] == "uint8")


def decode_array(values: NDArray[Any], spec: InputSpec, key: str) -> NDArray[np.float32]:
    """Inputs that come as one array [n, *spec.shape] of floats or uint8: the same, as float32.

    Raises:
        InvalidValueError: a value is outside the value range; the message names its place under `key`.
    """
    if values.dtype == np.uint8 and not spec.integers:
        return _scaled(values, 255, spec)
    with np.errstate(over="ignore"):
        decoded = np.require(values, np.float32, ["A"])  # bytes that were received may begin anywhere
    _refuse_outside(decoded, spec, key)
    return decoded


def decode_file(content: bytes, spec: InputSpec, key: str) -> NDArray[np.float32]:
    """An input from a PNG or JPEG file of exactly the model's height and width.

    Raises:
        InvalidValueError: it cannot be used; the message names `key`.
    """
    if spec.preprocess is not None and (spec.preprocess.mean or spec.preprocess.channels == "bgr"):
        problem = "this model takes normalised images; ask with preprocess: true, or give the numbers"
        raise InvalidValueError(key, problem)
    if len(spec.shape) != IMAGE_AXES or spec.shape[0] not in IMAGE_CHANNELS:
        raise InvalidValueError(key, f"inputs of shape {list(spec.shape)} cannot be given as an image")
    channels, height, width = spec.shape
    return _scaled(*decode_image(content, (channels, height, width), key), spec)


def _decode(item: Any, spec: InputSpec, key: str) -> NDArray[np.float32]:
    match item:
        case list():
            return _numbers(item, spec.shape, key) if spec.padding is None else _sequence(item, spec.shape, key)
        case {"image": _}:
            return _image(item, spec, key)
        case dict():
            return _raw(item, spec, key)
    raise InvalidValueError(key, f"{shown(item)} is neither nested numbers, nor b64 and dtype, nor an image")


def _numbers(item: list[Any], shape: tuple[int, ...], key: str) -> NDArray[np.float32]:
    """Nested lists, checked level by level, so that the message can say where they go wrong."""
    level: list[Any] = [item]
    for axis, size in enumerate(shape):
        if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
            position = next(i for i, part in enumerate(level) if type(part) is not list or len(part) != size)
            part = level[position]
            found = f"{len(part)} values" if type(part) is list else shown(part)
            place = _place(position, shape[:axis])
            raise InvalidValueError(f"{key}{place}", f"{found}; the shape is {list(shape)}, so {size} are needed")
        level = list(chain.from_iterable(level))
    if not set(map(type, level)) <= {float, int}:
        position = next(i for i, value in enumerate(level) if type(value) not in (float, int))
        raise InvalidValueError(f"{key}{_place(position, shape)}", f"{shown(level[position])} is not a number")
    return _float32(level).reshape(shape)


def _sequence(item: list[Any], shape: tuple[int, ...], key: str) -> NDArray[np.float32]:
    """The first elements of a list, as many as the shape has; a shorter list goes on with its last element."""
    if not item:
        raise InvalidValueError(key, f"an empty list; at least one element of shape {list(shape[1:])} is needed")
    length = min(len(item), shape[0])
    given = _numbers(item[:length], (length, *shape[1:]), key)
    return np.concatenate((given, np.repeat(given[-1:], shape[0] - length, axis=0)))


def _float32(values: list[float]) -> NDArray[np.float32]:
    """Numbers beyond float32 become infinite, which the range check then refuses by name."""
    with np.errstate(over="ignore"):
        return np.array(values, np.float64).astype(np.float32)


def _raw(item: dict[str, Any], spec: InputSpec, key: str) -> NDArray[np.float32]:
    try:
        refuse_unknown_keys(RawInput, item, key)
        given = RawInput.model_validate(item)
    except ValidationError as error:
        raise as_invalid_value(error, key) from None
    content = base64_bytes(given.b64, f"{key}.b64")
    dtype = np.dtype(given.dtype).newbyteorder("<")
    expected = math.prod(spec.shape) * dtype.itemsize
    if len(content) != expected:
        problem = f"{len(content)} bytes; {given.dtype} of shape {list(spec.shape)} has {expected}"
        raise InvalidValueError(f"{key}.b64", problem)
    values = np.frombuffer(content, dtype).reshape(spec.shape)
    spread = values.dtype == np.uint8 and not spec.integers
    return _scaled(values, 255, spec) if spread else values.astype(np.float32)


def _given_image(item: dict[str, Any], key: str) -> bytes:
    """The content of a picture file."""
    if len(item) == 1 and type(item["image"]) is str:  # all that the schema asks for
        return base64_bytes(item["image"], f"{key}.image")
    try:
        refuse_unknown_keys(ImageInput, item, key)
        given = ImageInput.model_validate(item)
    except ValidationError as error:
        raise as_invalid_value(error, key) from None
    return base64_bytes(given.image, f"{key}.image")


def _preprocessed(item: Any, spec: InputSpec, key: str) -> NDArray[np.float32]:
    """An image of any size, as the manifest declares."""
    _refuse_undeclared(spec)
    match item:
        case {"image": _}:
            return _preprocessed_file(_given_image(item, key), spec, f"{key}.image")
        case _:
            raise InvalidValueError(key, f"{shown(item)} is no image; preprocess is for images alone")


def _refuse_undeclared(spec: InputSpec) -> None:
    if spec.preprocess is None:
        raise InvalidValueError("preprocess", "true, but this model's manifest declares no preprocessing")


def _preprocessed_file(content: bytes, spec: InputSpec, key: str) -> NDArray[np.float32]:
    samples = decode_any_size(content, spec.shape[0], key)
    try:
        return preprocessed(samples, spec)
    except UnfitImageError as error:
        raise InvalidValueError(key, str(error)) from None


def _image(item: dict[str, Any], spec: InputSpec, key: str) -> NDArray[np.float32]:
    content = _given_image(item, key)
    key = f"{key}.image"
    return decode_file(content, spec, key)


def _scaled(samples: NDArray[Any], full: int, spec: InputSpec) -> NDArray[np.float32]:
    """Samples 0 … full onto the value range: looked up, which takes one pass where computing takes five."""
    return np.asarray(_levels(full, *spec.value_range)[samples])


@lru_cache(maxsize=16)
def _levels(full: int, low: float, high: float) -> NDArray[np.float32]:
    """The value of each sample 0 … full, float32 [full + 1]."""
    samples = np.arange(full + 1, dtype=np.float32)
    scaled = samples / np.float32(full) * np.float32(high - low) + np.float32(low)
    return np.asarray(np.minimum(scaled, np.float32(high)))  # rounding may pass it by a bit


def _refuse_outside(decoded: NDArray[np.float32], spec: InputSpec, key: str = "inputs") -> None:
    low, high = spec.value_range
    inside = (decoded >= low) & (decoded <= high)  # false for NaN too
    if not inside.all():
        where = np.unravel_index(int(inside.argmin()), decoded.shape)
        place = "".join(f"[{i}]" for i in where)
        raise InvalidValueError(f"{key}{place}", f"{decoded[where]!s} is outside the value range {low} … {high}")
    if spec.integers and (decoded != np.rint(decoded)).any():
        where = np.unravel_index(int((decoded != np.rint(decoded)).argmax()), decoded.shape)
        place = "".join(f"[{i}]" for i in where)
        raise InvalidValueError(f"{key}{place}", f"{decoded[where]!s} is no whole number, which this model takes")


def _place(position: int, shape: tuple[int, ...]) -> str:
    """Index of a flat position, as in `[0][3]`."""
    return "".join(f"[{i}]" for i in np.unravel_index(position, shape)) if shape else ""
