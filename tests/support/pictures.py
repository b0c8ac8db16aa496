"""Picture files as people and programs make them, and as no encoder at hand would."""

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = [(GREY, 1), (GREY, 2), (GREY, 4), (PALETTE, 1), (PALETTE, 2), (PALETTE, 4), (PALETTE, 8)] + [
    (colour, depth) for colour in (GREY, RGB, GREY_ALPHA, RGB_ALPHA) for depth in (8, 16)
]
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

Chunk = tuple[bytes, bytes]


def as_input(content: bytes) -> dict[str, str]:
    """A file as an image input."""
    return {"image": base64.b64encode(content).decode()}


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of PNG with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(chunks: Sequence[Chunk]) -> bytes:
    """A file of these chunks."""
    return SIGNATURE + b"".join(chunk(*each) for each in chunks)


def png_chunks(
    samples: NDArray[Any], colour: int, depth: int, *, interlaced: bool = False, palette: bytes = b"", seed: int = 0
) -> list[Chunk]:
    """A PNG with samples [height, width, channels] of that depth, its rows under filters drawn from `seed`."""
    height, width, _ = samples.shape
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    rng = np.random.default_rng(seed)
    passes = [samples[y::down, x::right] for x, y, right, down in PASSES] if interlaced else [samples]
    packed = zlib.compress(b"".join(_filtered(each, depth, rng) for each in passes if each.size))
    return [(b"IHDR", header), *([(b"PLTE", palette)] if palette else []), (b"IDAT", packed), (b"IEND", b"")]


def with_chunk(chunks: Sequence[Chunk], before: bytes, *more: Chunk) -> list[Chunk]:
    """The same with more chunks before the first one of that kind."""
    place = [kind for kind, _ in chunks].index(before)
    return [*chunks[:place], *more, *chunks[place:]]


def orientation_tag(orientation: int) -> bytes:
    """EXIF that says how a picture is turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes().removeprefix(b"Exif\0\0")


def jpeg_file(pixels: NDArray[np.uint8], mode: str | None = None, **options: Any) -> bytes:
    """A JPEG of pixels [height, width(, 3)], in another mode of Pillow if one is given."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    (image if mode is None else image.convert(mode)).save(file, "JPEG", **{"quality": 95} | options)
    return file.getvalue()


def _filtered(samples: NDArray[Any], depth: int, rng: np.random.Generator) -> bytes:
    """The rows, each packed and under one of the five filters (PNG specification, section 9)."""
    stride = max(1, depth * samples.shape[2] // 8)
    above = bytes(len(_row(samples[0], depth)))
    rows = []
    for each in samples:
        row, kind = _row(each, depth), int(rng.integers(5))
        padded, corner = bytes(stride) + row, bytes(stride) + above
        rows.append(bytes([kind]))
        rows.append(
            bytes((value - _predicted(kind, padded[i], above[i], corner[i])) & 255 for i, value in enumerate(row))
        )
        above = row
    return b"".join(rows)


def _predicted(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 4:
        guess = left + up - corner
        return min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
    return (0, left, up, (left + up) // 2)[kind]


def _row(samples: NDArray[Any], depth: int) -> bytes:
    values = samples.reshape(-1)
    if depth == 16:
        return values.astype(">u2").tobytes()
    if depth == 8:
        return values.astype(np.uint8).tobytes()
    bits = values[:, np.newaxis] >> np.arange(depth)[::-1] & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes()
