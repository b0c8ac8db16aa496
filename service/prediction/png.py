"""Reads PNG files in every colour type and depth, and refuses those that do not hold a whole picture.

Decoders meant for people's eyes show what they have: missing rows black, 16 bits cut to 8, unknown
colours black. So the file's structure is read here; Pillow only undoes the filters of its rows.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisevote.service.prediction.orientation import exif_orientation
from noisevote.service.prediction.picture import BadPictureError, Pixels

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
IHDR, PLTE, IDAT, IEND, TRNS, EXIF = b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf"
CRITICAL: Final = {IHDR, PLTE, IDAT, IEND}
ANCILLARY_BIT: Final = 0x20  # in the first letter of a chunk's name
MOST_CHUNKS: Final = 20_000  # of 8 KiB, as usual, they fill far more than any body
HEADER: Final = struct.Struct(">IIBBBBB")
# Before the data of a chunk, its length and name; after it, its checksum.
CHUNK: Final = struct.Struct(">I4s")
CHECKSUM: Final = struct.Struct(">I")
# Colour type: samples of a pixel, and the depths that it may have.
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS: Final = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS: Final = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
# Pillow's modes by bytes of a pixel; its filters work on bytes, whatever they stand for.
MODES: Final = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# First column and row, and their steps, of each pass of an interlaced picture.
PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True)
class PngPicture:
    """The chunks of a PNG file; see `Picture`."""

    size: tuple[int, int]
    depth: int
    colour: int
    interlaced: bool
    chunks: dict[bytes, bytes]

    @property
    def orientation(self) -> int:
        """See `Picture`."""
        return exif_orientation(self.chunks[EXIF].removeprefix(b"Exif\0\0")) if EXIF in self.chunks else 1

    def pixels(self) -> Pixels:
        """See `Picture`."""
        _refuse_incomplete(self)
        samples, full = self._samples(), 2**self.depth - 1
        if self.colour == PALETTE:
            return self._looked_up(samples[..., 0])
        if self.colour in {GREY_ALPHA, RGB_ALPHA}:
            return Pixels(samples[..., :-1], full, opaque=bool((samples[..., -1] == full).all()))
        return Pixels(samples, full, opaque=not self._has_transparent_colour(samples))

    def _samples(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Unfiltered samples [height, width, channels] of the file's own depth."""
        bits = self.depth * CHANNELS[self.colour]
        if bits < 8:
            pixels = self._unfiltered("P", f"P;{bits}")
        elif bits <= 32:
            pixels = self._unfiltered(MODES[bits // 8], MODES[bits // 8])
        else:  # 16 bits in three or four channels, which Pillow only reads one half at a time
            mode = MODES[CHANNELS[self.colour]]
            high, low = (self._unfiltered(mode, f"{mode};16{half}") for half in "BL")
            return high.astype(np.uint16) * np.uint16(256) + low
        return pixels if self.depth <= 8 else pixels.view(">u2").astype(np.uint16)

    def _unfiltered(self, mode: str, packed: str) -> NDArray[np.uint8]:
        try:
            image = Image.frombytes(mode, self.size, self.chunks[IDAT], "zip", packed, int(self.interlaced))
        except MemoryError:
            raise
        except Exception as error:  # whatever a decoder raises, it is the picture's fault
            raise BadPictureError(f"damaged: {error}") from None
        return np.frombuffer(image.tobytes(), np.uint8).reshape(self.size[1], self.size[0], -1)

    def _looked_up(self, indices: NDArray[np.generic]) -> Pixels:
        palette = np.frombuffer(self.chunks[PLTE], np.uint8).reshape(-1, 3)
        last = int(indices.max())
        if last >= len(palette):
            raise BadPictureError(f"incomplete: a pixel has colour {last} of a palette of {len(palette)}")
        alpha = np.full(256, 255, np.uint8)
        given = np.frombuffer(self.chunks.get(TRNS, b"")[:256], np.uint8)
        alpha[: len(given)] = given
        return Pixels(palette[indices], 255, opaque=bool((alpha[indices] == 255).all()))

    def _has_transparent_colour(self, samples: NDArray[np.generic]) -> bool:
        """Whether a pixel has the one colour that the file declares transparent."""
        if TRNS not in self.chunks:
            return False
        if len(self.chunks[TRNS]) != 2 * CHANNELS[self.colour]:
            raise BadPictureError(f"damaged: {len(self.chunks[TRNS])} bytes of transparency")
        colour = np.frombuffer(self.chunks[TRNS], ">u2") & (2**self.depth - 1)
        return bool((samples == colour).all(axis=-1).any())


def read_png(content: bytes) -> PngPicture:
    """The chunks of a PNG file, pixels still packed.

    Raises:
        BadPictureError: one that is needed is missing, damaged or in the wrong place.
    """
    chunks = _collected(content)
    if IHDR not in chunks or len(chunks[IHDR]) != HEADER.size:
        raise BadPictureError("damaged: it has no header")
    width, height, depth, colour, compression, filters, interlace = HEADER.unpack(chunks[IHDR])
    if depth not in DEPTHS.get(colour, ()) or (compression, filters) != (0, 0) or interlace > 1:
        raise BadPictureError(f"damaged: no PNG has colour type {colour} with {depth} bits, or packs it so")
    if not 0 < width < 2**31 or not 0 < height < 2**31:
        raise BadPictureError(f"damaged: {width}×{height} pixels")
    if colour == PALETTE and not 3 <= len(chunks.get(PLTE, b"")) <= 768:
        raise BadPictureError("incomplete: its palette is missing")
    if len(chunks.get(PLTE, b"")) % 3:
        raise BadPictureError(f"damaged: a palette of {len(chunks[PLTE])} bytes")
    return PngPicture((width, height), depth, colour, bool(interlace), chunks)


def _collected(content: bytes) -> dict[bytes, bytes]:
    """The content of each kind of chunk that is needed, all IDAT in one."""
    chunks: dict[bytes, bytes] = {}
    packed: list[bytes] = []
    before = b""
    for kind, data in _chunks(content):
        if not kind[0] & ANCILLARY_BIT and kind not in CRITICAL:
            raise BadPictureError(f"it has a chunk {kind!r}, without which it cannot be read rightly")
        if packed and (kind == PLTE or (kind == IDAT and before != IDAT)):
            raise BadPictureError(f"damaged: its chunk {kind.decode()} is in the wrong place")
        if kind == IDAT:
            packed.append(data)
        else:
            chunks.setdefault(kind, data)
        before = kind
    chunks[IDAT] = b"".join(packed)
    return chunks


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk, up to the last one."""
    position, size = len(SIGNATURE), len(content)
    for number in range(MOST_CHUNKS):
        start = position + CHUNK.size
        length, kind = CHUNK.unpack_from(content, position) if start <= size else (size, b"")
        end = start + length
        if size < end + CHECKSUM.size:
            raise BadPictureError("incomplete: the file ends before the picture does")
        if (number == 0) != (kind == IHDR):
            raise BadPictureError("damaged: its header is not its first chunk alone")
        data = content[start:end]
        if zlib.crc32(data, zlib.crc32(kind)) != CHECKSUM.unpack_from(content, end)[0]:
            raise BadPictureError(f"damaged: the checksum of its chunk {kind!r} is wrong")
        if kind == IEND:
            return
        yield kind, data
        position = end + CHECKSUM.size
    raise BadPictureError(f"more than {MOST_CHUNKS} chunks")


def _refuse_incomplete(picture: PngPicture) -> None:
    """Unpack all rows, and no more, and see that nothing is missing."""
    width, height = picture.size
    bits = picture.depth * CHANNELS[picture.colour]
    needed = sum(rows * row for row, rows in _row_bytes(width, height, bits, interlaced=picture.interlaced))
    unpacker = zlib.decompressobj()
    try:  # with room for one byte more, the unpacker goes on to the end
        found = len(unpacker.decompress(picture.chunks[IDAT], needed + 1))
    except zlib.error as error:
        raise BadPictureError(f"damaged: {error}") from None
    if found < needed or not (found > needed or unpacker.eof):
        raise BadPictureError(f"incomplete: {found} of the {needed} bytes of its pixels, or no end of them")
    if found > needed:
        raise BadPictureError(f"damaged: more than the {needed} bytes of its pixels")


def _row_bytes(width: int, height: int, bits: int, *, interlaced: bool) -> Iterator[tuple[int, int]]:
    """Bytes of a row with its filter, and how many such rows there are, in each pass."""
    for column, row, right, down in PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((column - width) // right), -((row - height) // down)
        if columns > 0 and rows > 0:
            yield 1 + (columns * bits + 7) // 8, rows
