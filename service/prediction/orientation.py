"""EXIF orientation: how a camera was held, so that pictures can be turned upright as every viewer does."""

import struct
from typing import Any, Final

from numpy.typing import NDArray

UPRIGHT: Final = 1
TAG: Final = 0x0112
SHORT: Final = 3  # EXIF's number for 16 bits
BYTE_ORDERS: Final = {b"II": "<", b"MM": ">"}
FIRST_SIDEWAYS: Final = 5  # 5 … 8 exchange rows and columns
# Then in which direction rows and columns are read.
STEPS: Final = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}


def exif_orientation(exif: bytes) -> int:
    """Orientation 1 … 8 in a block of EXIF; upright where it says nothing that can be read.

    Viewers ignore a broken block, so it does not make a picture unreadable.
    """
    order = BYTE_ORDERS.get(exif[:2])
    if order is None:
        return UPRIGHT
    try:
        (offset,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, offset)
        for index in range(entries):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", exif, offset + 2 + 12 * index)
            if tag == TAG:
                return int(value) if (kind, count) == (SHORT, 1) and value in STEPS else UPRIGHT
    except struct.error:  # cut short
        pass
    return UPRIGHT


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height once the picture is turned."""
    width, height = size
    return (height, width) if orientation >= FIRST_SIDEWAYS else (width, height)


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels [height, width, …] of that orientation, turned upright."""
    if orientation == UPRIGHT:
        return pixels
    rows, columns = STEPS[orientation]
    turned = pixels.swapaxes(0, 1) if orientation >= FIRST_SIDEWAYS else pixels
    return turned[::rows, ::columns]
