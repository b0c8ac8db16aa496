"""Reads JPEG files with a strict decoder: where libjpeg would warn and fill in, the picture is refused."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from noisevote.service.prediction.orientation import exif_orientation
from noisevote.service.prediction.picture import BadPictureError, Pixels

SIGNATURE: Final = b"\xff\xd8\xff"
# Of whatever follows a byte 255, what is no marker: a stuffed byte, padding, a restart within a scan.
MARKER: Final = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
STANDALONE, APP1, SCAN, END = 0x01, 0xE1, 0xDA, 0xD9
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
EXIF: Final = b"Exif\0\0"
# A scan may be a few bytes and still pass over the whole picture. Encoders write a dozen.
MOST_SCANS: Final = 100
MOST_SEGMENTS: Final = 20_000
COEFFICIENTS: Final = range(64)  # of a block of 8×8
FOUR_INKS: Final = ("CMYK", "YCCK")

Segment = tuple[int, bytes]


@dataclass(frozen=True)
class JpegPicture:
    """The segments of a JPEG file; see `Picture`."""

    content: bytes
    segments: list[Segment]
    size: tuple[int, int]
    colours: str

    @property
    def orientation(self) -> int:
        """See `Picture`; of the first block of EXIF."""
        blocks = (data for marker, data in self.segments if marker == APP1 and data.startswith(EXIF))
        return exif_orientation(next(blocks, b"").removeprefix(EXIF))

    def pixels(self) -> Pixels:
        """See `Picture`."""
        if self.colours in FOUR_INKS:
            inks = 255 - self._decoded("CMYK")  # stored inverted, as Adobe began
            samples = np.asarray(Image.frombytes("CMYK", self.size, inks.tobytes()).convert("RGB"))
        else:
            samples = self._decoded("GRAY" if self.colours == "Gray" else "RGB")
        _refuse_missing_scans(self.segments)
        return Pixels(samples, full=255, opaque=True)

    def _decoded(self, colours: str) -> NDArray[np.uint8]:
        try:
            decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(self.content, colours, strict=True)
        except MemoryError:
            raise
        except Exception as error:  # whatever a decoder raises, it is the picture's fault
            raise BadPictureError(f"incomplete or damaged: {error}") from None
        return decoded


def read_jpeg(content: bytes) -> JpegPicture:
    """The segments of a JPEG file, pixels still packed.

    Raises:
        BadPictureError: they are no header, or more than any encoder writes.
    """
    segments = list(_segments(content))
    if sum(marker == SCAN for marker, _ in segments) > MOST_SCANS:
        raise BadPictureError(f"more than {MOST_SCANS} scans")
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder raises, it is the picture's fault
        raise BadPictureError(f"incomplete or damaged: {error}") from None
    return JpegPicture(content, segments, (width, height), colours)


def _segments(content: bytes) -> Iterator[Segment]:
    """Marker and content of each segment; scans without their entropy-coded pixels."""
    position = 2
    for _ in range(MOST_SEGMENTS):
        found = MARKER.search(content, position)
        if found is None or found[1][0] == END:
            return
        position = found.end()
        if found[1][0] != STANDALONE:
            length = max(2, int.from_bytes(content[position : position + 2]))
            yield found[1][0], content[position + 2 : position + length]
            position += length
    raise BadPictureError(f"more than {MOST_SEGMENTS} segments")


def _refuse_missing_scans(segments: list[Segment]) -> None:
    """See that the scans bring every coefficient of every colour to its last bit.

    A progressive picture that ends between two scans is still one, of fewer details; so no decoder complains.
    """
    missing = {colour: set(COEFFICIENTS) for marker, data in segments if marker in FRAMES for colour in data[6::3]}
    for marker, data in segments:
        if marker == SCAN and len(data) == 2 * data[0] + 4:
            first, last, bits = data[-3:]
            for colour in data[1:-3:2]:
                if not bits & 15:  # of those that are still to come
                    missing.get(colour, set()).difference_update(range(first, last + 1))
    if any(missing.values()):
        raise BadPictureError("incomplete: it ends before its last scan")
