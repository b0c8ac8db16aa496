"""Reads a request's body, and refuses what is too long or not JSON before it is read whole."""

import json
from typing import Any

import orjson
from fastapi import Request

from noisevote.service.errors import BodyTooLargeError, InvalidJsonError, UnsupportedMediaTypeError

JSON = "application/json"


async def read_json_body(request: Request, limit: int) -> bytes:
    """The body of a request that announces plain JSON.

    Raises:
        UnsupportedMediaTypeError: another content type, or an encoded body.
        BodyTooLargeError: more than `limit` bytes, by its own announcement or while it is read.
    """
    content_type = request.headers.get("content-type")
    if content_type is None or content_type.partition(";")[0].strip().lower() != JSON:
        raise UnsupportedMediaTypeError("content-type", content_type)
    encoding = request.headers.get("content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedMediaTypeError("content-encoding", encoding)
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise BodyTooLargeError(limit, int(announced))
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def parse_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object.

    orjson is strict: it knows neither NaN nor numbers beyond a double. Bodies with those are read
    again by Python's parser, which does, so that validation can name the key that holds them.

    Raises:
        InvalidJsonError: it is none.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        value = _parse_loosely(body, error)
    if not isinstance(value, dict):
        raise InvalidJsonError(f"body: a JSON object is needed, not {type(value).__name__}")
    return value


def _parse_loosely(body: bytes, strict_error: orjson.JSONDecodeError) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # not JSON at all: the strict parser says where
        raise InvalidJsonError(f"body: {strict_error}") from None
