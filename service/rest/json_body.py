"""Makes sense of a JSON body: what it costs is counted before any of it becomes an object."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Self, TypeVar

import numpy as np
import orjson
from pydantic import ValidationError

from noisevote.service.errors import BodyTooComplexError, InvalidJsonError
from noisevote.service.settings import Settings
from noisevote.service.validation import Body, as_invalid_value, refuse_unknown_keys

# Shorter bodies cost too little to be worth counting.
COUNTED_BYTES: Final = 16 * 1024
# Longer bodies are read by the strict parser alone, so that nobody makes the server read them twice.
READ_TWICE_BYTES: Final = 256 * 1024
MOST_DEPTH: Final = 64
SLICE: Final = 1 << 20
LONGEST_EXACT_DIGITS: Final = 20  # of 2⁶⁴ − 1

Kind = TypeVar("Kind", bound=Body)

_STEPS: Final = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1


@dataclass(frozen=True)
class JsonLimits:
    """Bounds on what a body may consist of: values of any kind, objects, keys of all objects."""

    values: int
    objects: int
    keys: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """An input needs one object of two keys at most; the others are the request's own."""
        return cls._of(settings.max_body_values, settings.max_inputs)

    @classmethod
    @cache
    def _of(cls, values: int, inputs: int) -> Self:
        return cls(values, 2 * inputs + 64, 8 * inputs + 64)


def read_object(kind: type[Kind], body: bytes, limits: JsonLimits) -> Kind:
    """A body as an object of this kind.

    Raises:
        ServiceError: it is none; the message names key and value.
    """
    return read_content(kind, parse_object(body, limits))


def read_content(kind: type[Kind], content: dict[str, Any]) -> Kind:
    """A JSON object as an object of this kind; see `read_object` for errors."""
    refuse_unknown_keys(kind, content)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise as_invalid_value(error) from None


def parse_object(body: bytes, limits: JsonLimits) -> dict[str, Any]:
    """The body as a JSON object.

    orjson is strict: it knows neither NaN nor numbers beyond a double. Short bodies with those are read
    again by Python's parser, which does, so that validation can name the key that holds them.

    Raises:
        BodyTooComplexError: it passes a limit; nothing of it was parsed.
        InvalidJsonError: it is none.
    """
    if len(body) > COUNTED_BYTES:
        refuse_complex(body, limits)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        value = _parse_loosely(body, error)
    if not isinstance(value, dict):
        raise InvalidJsonError(f"body: a JSON object is needed, not {type(value).__name__}")
    return value


def refuse_complex(body: bytes, limits: JsonLimits) -> None:
    """Do nothing with a body that keeps the limits, told by its commas, colons and brackets, those in texts included.

    Raises:
        BodyTooComplexError: it does not.
    """
    objects, keys = body.count(b"{"), body.count(b":")
    values = body.count(b",") + body.count(b"[") + objects
    for what, found, most in (
        ("objects", objects, limits.objects),
        ("keys", keys, limits.keys),
        ("values", values, limits.values),
    ):
        if found > most:
            raise BodyTooComplexError(f"body: {found} {what}; at most {most} are read")
    if (depth := _depth(body)) > MOST_DEPTH:
        raise BodyTooComplexError(f"body: lists and objects {depth} deep; at most {MOST_DEPTH} are read")


def _depth(body: bytes) -> int:
    """How deep lists and objects are nested, counted slice by slice."""
    before = deepest = 0
    for start in range(0, len(body), SLICE):
        steps = _STEPS[np.frombuffer(body, np.uint8, min(SLICE, len(body) - start), start)]
        depths = np.cumsum(steps, dtype=np.int32)
        deepest = max(deepest, before + int(depths.max()))
        before += int(depths[-1])
    return deepest


def _parse_loosely(body: bytes, strict_error: orjson.JSONDecodeError) -> Any:
    if len(body) > READ_TWICE_BYTES:
        raise InvalidJsonError(f"body: {strict_error}")
    try:
        return json.loads(body, parse_int=_number)
    except (ValueError, RecursionError):  # not JSON at all: the strict parser says where
        raise InvalidJsonError(f"body: {strict_error}") from None


def _number(digits: str) -> int | float:
    """Whole numbers as the strict parser reads them: exact up to 64 bits, doubles beyond."""
    if len(digits) > LONGEST_EXACT_DIGITS:
        return float(digits)
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else float(number)
