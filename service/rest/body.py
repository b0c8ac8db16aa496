"""Receives a request's body, and refuses what is too long or not announced as JSON before it is received whole."""

import asyncio
import zlib
from collections.abc import Mapping
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from noisevote.service.errors import BodyTooLargeError, InvalidEncodingError, UnsupportedMediaTypeError

JSON: Final = "application/json"
UNENCODED: Final = frozenset({"", "identity"})
# Encodings by how zlib calls them.
GZIPPED: Final[Mapping[str, int]] = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS}
PACKED: Final[Mapping[str, int]] = {**GZIPPED, "deflate": zlib.MAX_WBITS}
# Unpacked at a time, so that the event loop turns meanwhile.
UNPACKED_BYTES: Final = 256 * 1024
# Given to be unpacked at a time: zlib copies what it has not come to.
PACKED_BYTES: Final = 64 * 1024
# Python lets other threads run while it joins this many.
JOINED_BYTES: Final = 2**20
# Digits of a length that are looked at; more than any that could be read.
LONGEST_LENGTH: Final = 20


async def read_json_body(request: Request, limit: int) -> bytes:
    """The body of a request that announces JSON, unpacked.

    Raises:
        UnsupportedMediaTypeError: another content type, or another encoding than gzip.
        InvalidEncodingError: it is not what its encoding says.
        BodyTooLargeError: more than `limit` bytes, by its own announcement, while it is received or while it is
            unpacked.
    """
    headers = _headers(request)
    content_type = _text(headers, b"content-type")
    if content_type != JSON and (content_type or "").partition(";")[0].strip().lower() != JSON:
        raise UnsupportedMediaTypeError("content-type", content_type)
    return await _read(request, headers, limit, GZIPPED)


async def read_body(request: Request, limit: int, codings: Mapping[str, int]) -> bytes:
    """The body of a request, whatever it is, unpacked; `codings` are the encodings that are read, by their names.

    Raises:
        ServiceError: see above.
    """
    return await _read(request, _headers(request), limit, codings)


def _headers(request: Request) -> dict[bytes, bytes]:
    """The first header of each name, in small letters. The framework's view of headers takes several times as long."""
    return dict(reversed(request.scope["headers"]))


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


async def _read(request: Request, headers: Mapping[bytes, bytes], limit: int, codings: Mapping[str, int]) -> bytes:
    encoding = _text(headers, b"content-encoding") or ""
    coding = encoding.strip().lower()
    if coding not in codings and coding not in UNENCODED:
        raise UnsupportedMediaTypeError("content-encoding", encoding)
    body = await _received(request, _text(headers, b"content-length") or "0", limit)
    return await _unpacked(body, limit, coding, codings[coding]) if coding in codings else body


async def _received(request: Request, announced: str, limit: int) -> bytes:
    if announced.isdecimal() and int(announced[:LONGEST_LENGTH]) > limit:
        raise BodyTooLargeError(limit, int(announced[:LONGEST_LENGTH]))
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size, more = size + len(chunks[-1]), message.get("more_body", False)
        if size > limit:
            raise BodyTooLargeError(limit)
    return await _joined(chunks, size)


async def _joined(chunks: list[bytes], size: int) -> bytes:
    """All of them; where they are long, without keeping the event loop meanwhile."""
    if len(chunks) == 1:
        return chunks[0]
    return b"".join(chunks) if size < JOINED_BYTES else await asyncio.to_thread(b"".join, chunks)


async def _unpacked(packed: bytes, limit: int, coding: str, window: int) -> bytes:
    """What a packed body of one member holds."""
    unpacking = zlib.decompressobj(window)
    chunks: list[bytes] = []
    size = taken = 0
    rest = b""  # of what was taken
    while not unpacking.eof:
        if not rest:
            rest = packed[taken : taken + PACKED_BYTES]
            taken += len(rest)
        try:
            chunk = unpacking.decompress(rest, UNPACKED_BYTES)
        except zlib.error as error:
            raise InvalidEncodingError(f"content-encoding: the body is not {coding} ({error})") from None
        rest = unpacking.unconsumed_tail
        if not (chunk or rest or taken < len(packed) or unpacking.eof):
            raise InvalidEncodingError(f"content-encoding: the {coding} body ends too early")
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError(limit)
        chunks.append(chunk)
        await asyncio.sleep(0)
    if unpacking.unused_data or taken < len(packed):
        raise InvalidEncodingError(f"content-encoding: more follows the {coding} body's end; send one member")
    return await _joined(chunks, size)
