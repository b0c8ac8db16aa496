"""What a picture file is to the service, whatever its format."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class BadPictureError(Exception):
    """The content is no whole, sound picture; the message says what is wrong with it."""


@dataclass(frozen=True)
class Pixels:
    """Unpacked pixels.

    `samples` is uint8 or uint16 [height, width, 1 or 3], grey or red, green and blue, of which `full` is the brightest.
    `opaque` tells that nothing behind them would be seen.
    """

    samples: NDArray[np.uint8] | NDArray[np.uint16]
    full: int
    opaque: bool


class Picture(Protocol):
    """A picture whose pixels are not yet unpacked: what its header says."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored."""

    @property
    def orientation(self) -> int:
        """How the stored pixels are turned, as EXIF numbers it: 1 is upright."""

    def pixels(self) -> Pixels:
        """Unpack the pixels as stored.

        Raises:
            BadPictureError: some are missing or damaged.
        """
