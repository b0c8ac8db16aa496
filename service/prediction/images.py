"""Decodes a PNG or JPEG file into brightnesses, upright, opaque and of exactly the wanted size and channels."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from noisevote.service.errors import InvalidValueError
from noisevote.service.prediction import jpeg, png
from noisevote.service.prediction.orientation import UPRIGHT, upright, upright_size
from noisevote.service.prediction.picture import BadPictureError, Picture, Pixels

# Luma of red, green and blue (ITU-R 601) in 1/65536, as Pillow takes it: exact in 32 bits for 16-bit samples too.
LUMA: Final = np.array([19595, 38470, 7471], np.uint32)
HALF: Final = np.uint32(2**15)
BYTE: Final = 255
# Unpacked, a picture of so many takes some tens of megabytes; cameras make larger ones, which no network sees whole.
MOST_PIXELS: Final = 2**24


def decode_image(content: bytes, shape: tuple[int, int, int], key: str) -> tuple[NDArray[Any], int]:
    """Samples [channels, height, width] of a picture file, and the sample of full brightness.

    The size is read from the header, before any pixel is unpacked.

    Args:
        content: the file.
        shape: channels (1 grey, 3 colour), height and width that it must have once it is turned upright.
        key: where it stands in the body, for messages.

    Raises:
        InvalidValueError: it is no such picture, or none at all.
    """
    channels, height, width = shape
    try:
        picture = _read(content, key)
        _refuse_other_size(picture, (width, height), key)
        pixels = picture.pixels()
    except BadPictureError as error:
        raise InvalidValueError(key, f"not a readable PNG or JPEG file ({error})") from None
    if not pixels.opaque:
        raise InvalidValueError(key, "the image is transparent; put it on the background that it needs")
    return upright(_in_channels(pixels, channels), picture.orientation).transpose(2, 0, 1), pixels.full


def decode_any_size(content: bytes, channels: int, key: str) -> NDArray[np.uint8]:
    """Samples uint8 [height, width, channels] of a picture file of any size up to `MOST_PIXELS`.

    Raises:
        InvalidValueError: it is no such picture, or none at all.
    """
    try:
        picture = _read(content, key)
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise InvalidValueError(key, f"the image is {width}×{height} pixels, more than {MOST_PIXELS} in all")
        pixels = picture.pixels()
    except BadPictureError as error:
        raise InvalidValueError(key, f"not a readable PNG or JPEG file ({error})") from None
    if not pixels.opaque:
        raise InvalidValueError(key, "the image is transparent; put it on the background that it needs")
    samples = upright(_in_channels(pixels, channels), picture.orientation)
    if pixels.full != BYTE:
        samples = (samples.astype(np.uint32) * BYTE + pixels.full // 2) // pixels.full
    return np.ascontiguousarray(samples, np.uint8)


def _read(content: bytes, key: str) -> Picture:
    if content.startswith(png.SIGNATURE):
        return png.read_png(content)
    if content.startswith(jpeg.SIGNATURE):
        return jpeg.read_jpeg(content)
    raise InvalidValueError(key, "the content is neither a PNG nor a JPEG file")


def _refuse_other_size(picture: Picture, wanted: tuple[int, int], key: str) -> None:
    found = upright_size(picture.size, picture.orientation)
    if found != wanted:
        turned = "" if picture.orientation == UPRIGHT else " once it is turned upright"
        problem = f"the image is {found[0]}×{found[1]} pixels{turned}, the model takes {wanted[0]}×{wanted[1]}"
        raise InvalidValueError(key, problem)


def _in_channels(pixels: Pixels, channels: int) -> NDArray[Any]:
    """Grey as three equal channels, or colour as its luma, where the model wants it."""
    samples = pixels.samples
    if samples.shape[2] == channels:
        return samples
    if channels == 1:
        luma = (samples.astype(np.uint32) @ LUMA + HALF) >> np.uint32(16)
        return np.asarray(luma[..., np.newaxis])
    return np.repeat(samples, channels, axis=2)
