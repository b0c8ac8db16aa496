"""JPEG files, sound and damaged."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from noisevote.model_store.manifest import InputSpec
from noisevote.service.errors import InvalidValueError
from noisevote.service.prediction.inputs import decode_inputs
from tests.support.pictures import as_input, jpeg_file

pytestmark = pytest.mark.slow

SIDE = 48
SPEC = InputSpec(shape=(3, SIDE, SIDE))
END = b"\xff\xd9"


def picture(seed: int = 0) -> Any:
    """Something with edges and colours, [height, width, 3]."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(90, 160, (SIDE, SIDE, 3), dtype=np.uint8))
    ImageDraw.Draw(image).ellipse((6, 10, 40, 44), (200, 60, 20))
    return np.asarray(image)


KINDS: list[dict[str, Any]] = [
    {"mode": "L"},
    {"mode": "RGB"},
    {"mode": "CMYK"},
    {"mode": "RGB", "progressive": True},
    {"mode": "RGB", "subsampling": 0, "quality": 30},
    {"mode": "RGB", "subsampling": 2, "restart_marker_blocks": 2},
    {"mode": "RGB", "optimize": True, "comment": b"of a camera"},
    {"mode": "RGB", "keep_rgb": True},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_pixels_are_those_of_other_readers(kind: dict[str, Any]) -> None:
    """To the bit as Pillow, whose decoder is libjpeg-turbo too: grey, colour, inks, in scans, with restarts."""
    content = jpeg_file(picture(), **kind)
    with Image.open(io.BytesIO(content)) as image:
        seen = np.moveaxis(np.asarray(image.convert("RGB")), 2, 0)
    (decoded,) = decode_inputs([as_input(content)], SPEC)
    np.testing.assert_array_equal(decoded, seen / np.float32(255))


def refused(content: bytes) -> str:
    """The message of a file that must be refused."""
    with pytest.raises(InvalidValueError) as error:
        decode_inputs([as_input(content)], SPEC)
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_picture_that_is_cut_is_refused(kind: dict[str, Any]) -> None:
    """Wherever before its end, also where it is closed as if it were whole, which viewers fill with grey.

    That holds between two scans of a progressive picture too, which is a picture then, of fewer details.
    """
    content = jpeg_file(picture(), **kind)
    for length in range(3, len(content) - 2):
        assert "inputs[0].image: " in refused(content[:length])
        assert "inputs[0].image: " in refused(content[:length] + END)


def test_a_zeroed_block_is_refused() -> None:
    """Where the decoder notices: of blocks of 64 bytes of such pictures nine in ten.

    The others decode to other pixels without a contradiction. JPEG has no checksum, so no decoder can tell; of smoother
    pictures there are more.
    """
    seen = total = 0
    for seed in range(5):
        content = jpeg_file(picture(seed))
        start = content.index(b"\xff\xda") + 14
        for place in range(start, len(content) - 66, 64):
            total += 1
            try:
                decode_inputs([as_input(content[:place] + bytes(64) + content[place + 64 :])], SPEC)
            except InvalidValueError:
                seen += 1
    assert seen >= 0.9 * total > 50


def test_what_follows_the_picture_is_not_read() -> None:
    """Cameras append thumbnails and films."""
    content = jpeg_file(picture())
    whole = decode_inputs([as_input(content)], SPEC)
    np.testing.assert_array_equal(decode_inputs([as_input(content + b"and more" + content[:99])], SPEC), whole)


def test_scans_are_counted() -> None:
    """A scan of a few bytes passes over the whole picture, so thousands of them would cost much."""
    content = jpeg_file(picture(), progressive=True)
    last = content.rindex(b"\xff\xda")
    assert "more than 100 scans" in refused(content[:last] + content[last:-2] * 200 + END)


def test_other_sizes_are_refused_by_the_header() -> None:
    """Before any pixel is unpacked."""
    content = bytearray(jpeg_file(picture()))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = (60_000).to_bytes(2) * 2
    assert refused(bytes(content)) == "inputs[0].image: the image is 60000×60000 pixels, the model takes 48×48"
