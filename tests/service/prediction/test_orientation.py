"""Pictures are turned upright as viewers turn them."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from noisevote.model_store.manifest import InputSpec
from noisevote.service.errors import InvalidValueError
from noisevote.service.prediction.inputs import decode_inputs
from noisevote.service.prediction.orientation import exif_orientation
from tests.support.pictures import GREY, RGB, as_input, orientation_tag, png_chunks, png_of, with_chunk

HEIGHT, WIDTH = 6, 9
STORED = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
ORIENTATIONS = range(1, 9)


def file_of(file_format: str, orientation: int) -> bytes:
    """The stored pixels, said to be turned so."""
    file = io.BytesIO()
    Image.fromarray(STORED).save(file, file_format, exif=b"Exif\0\0" + orientation_tag(orientation))
    return file.getvalue()


def spec_of(orientation: int, channels: int = 3) -> InputSpec:
    """A model that takes the picture once it is upright."""
    return InputSpec(shape=(channels, HEIGHT, WIDTH) if orientation < 5 else (channels, WIDTH, HEIGHT))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pictures_are_turned_upright(file_format: str, orientation: int) -> None:
    """As Pillow turns them, in all eight orientations."""
    content = file_of(file_format, orientation)
    with Image.open(io.BytesIO(content)) as image:
        upright = np.moveaxis(np.asarray(ImageOps.exif_transpose(image)), 2, 0)
    (decoded,) = decode_inputs([as_input(content)], spec_of(orientation))
    np.testing.assert_array_equal(decoded, upright / np.float32(255))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_size_is_that_of_the_upright_picture(file_format: str, orientation: int) -> None:
    """One that only fits as it is stored is refused, and told why."""
    message = rf"the image is {HEIGHT}×{WIDTH} pixels once it is turned upright, the model takes {WIDTH}×{HEIGHT}"
    with pytest.raises(InvalidValueError, match=message):
        decode_inputs([as_input(file_of(file_format, orientation))], spec_of(1))


@pytest.mark.parametrize("place", [b"IDAT", b"IEND"])
def test_a_png_of_16_bits_is_turned_too(place: bytes) -> None:
    """Wherever its eXIf stands, and with the prefix that some write there."""
    samples = np.random.default_rng(4).integers(0, 65536, (HEIGHT, WIDTH, 1))
    for prefix in (b"", b"Exif\0\0"):
        chunks = with_chunk(png_chunks(samples, GREY, 16), place, (b"eXIf", prefix + orientation_tag(6)))
        (decoded,) = decode_inputs([as_input(png_of(chunks))], spec_of(6, channels=1))
        np.testing.assert_array_equal(decoded[0], (np.rot90(samples[..., 0], -1) / 65535).astype(np.float32))


def entry(order: str, value: int, kind: int = 3, count: int = 1) -> bytes:
    """EXIF of two entries, the second of which is an orientation."""
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, 2)
    return (
        start
        + struct.pack(f"{order}HHII", 0x0100, 4, 1, 9)
        + struct.pack(f"{order}HHIHH", 0x0112, kind, count, value, 0)
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(order: str) -> None:
    """Of Intel and of Motorola."""
    assert [exif_orientation(entry(order, value)) for value in ORIENTATIONS] == list(ORIENTATIONS)


@pytest.mark.parametrize(
    "exif",
    [b"", b"II", b"XX" + bytes(99), entry("<", 0), entry("<", 9), entry("<", 6, kind=2), entry(">", 6, count=2)]
    + [entry("<", 6)[:length] for length in range(3, 32)]
    + [b"II*\0" + b"\xff" * 40],
    ids=bytes.hex,
)  # fmt: skip
def test_what_says_nothing_leaves_the_picture_as_it_is(exif: bytes) -> None:
    """Viewers show a picture whose EXIF is broken, cut or of another kind; nothing is guessed from it."""
    assert exif_orientation(exif) == 1
    chunks = with_chunk(png_chunks(STORED, RGB, 8), b"IDAT", (b"eXIf", exif))
    (decoded,) = decode_inputs([as_input(png_of(chunks))], spec_of(1))
    np.testing.assert_array_equal(decoded, np.moveaxis(STORED, 2, 0) / np.float32(255))
