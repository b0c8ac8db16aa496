"""Pictures that people really send, to the published network of digits: the right label, or a refusal."""

import base64
import io
import textwrap
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.Image import Transpose

from tests.support.pictures import (
    CHANNELS,
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGB_ALPHA,
    as_input,
    jpeg_file,
    orientation_tag,
    png_chunks,
    png_of,
    with_chunk,
)

pytestmark = pytest.mark.xdist_group("published")

PATH = "/v1/models/mnist-cnn/predict"
DIGITS = np.load(Path(__file__).parents[1] / "data" / "mnist_digits.npz")
SEVEN = DIGITS["images"][0]
# How an upright picture is turned to be stored with each orientation: what viewers undo.
STORED = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


def turned(upright: Any, file_format: str, orientation: int) -> bytes:
    """A file whose pixels are stored as a camera held so stores them."""
    image, file = Image.fromarray(upright), io.BytesIO()
    stored = image.transpose(STORED[orientation]) if orientation in STORED else image
    stored.save(file, file_format, exif=b"Exif\0\0" + orientation_tag(orientation))
    return file.getvalue()


async def labels(client: httpx.AsyncClient, inputs: list[dict[str, str]]) -> list[int]:
    """What the network says of each without noise."""
    response = await client.post(PATH, json={"inputs": inputs, "votes": 1})
    assert response.status_code == 200, response.text
    return [prediction["index"] for prediction in response.json()["predictions"]]


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
async def test_digits_are_right_however_the_camera_was_held(
    client: httpx.AsyncClient, file_format: str, orientation: int
) -> None:
    """All 64 in all 8 orientations."""
    inputs = [as_input(turned(image, file_format, orientation)) for image in DIGITS["images"]]
    assert await labels(client, inputs) == DIGITS["labels"].tolist()


def samples(colour: int, depth: int) -> Any:
    """The seven in the samples of a kind of PNG, opaque."""
    grey = np.rint(SEVEN / 255 * (2**depth - 1)).astype(int)[..., np.newaxis]
    if colour == PALETTE:
        return (SEVEN[..., np.newaxis] > 127).astype(int)
    repeated = np.repeat(grey, CHANNELS[colour], axis=2)
    if colour in {GREY_ALPHA, RGB_ALPHA}:
        repeated[..., -1] = 2**depth - 1
    return repeated


@pytest.mark.parametrize("colour", [GREY, RGB, GREY_ALPHA, RGB_ALPHA])
@pytest.mark.parametrize("depth", [8, 16])
async def test_a_seven_of_any_depth_is_a_seven(client: httpx.AsyncClient, colour: int, depth: int) -> None:
    """And where something shines through, it is refused in all of them."""
    seven = samples(colour, depth)
    chunks = png_chunks(seven, colour, depth)
    assert await labels(client, [as_input(png_of(chunks))]) == [7]
    if colour in {GREY_ALPHA, RGB_ALPHA}:
        seven[0, 0, -1] = 0
        chunks = png_chunks(seven, colour, depth)
    else:
        chunks = with_chunk(chunks, b"IDAT", (b"tRNS", bytes(2 * CHANNELS[colour])))
    assert "the image is transparent" in await refused(client, as_input(png_of(chunks)))


async def refused(client: httpx.AsyncClient, item: dict[str, str]) -> str:
    """The message of an input that must be refused."""
    response = await client.post(PATH, json={"inputs": [item]})
    assert response.status_code == 422, response.text
    return str(response.json()["error"]["message"])


@pytest.mark.parametrize("rows", [1, 14, 27])
async def test_a_seven_of_fewer_rows_is_refused(client: httpx.AsyncClient, rows: int) -> None:
    """A PNG whose other rows are missing, and a JPEG that is cut and closed."""
    whole, part = (dict(png_chunks(seven, GREY, 8)) for seven in (samples(GREY, 8), samples(GREY, 8)[:rows]))
    assert "incomplete" in await refused(client, as_input(png_of(list((whole | {b"IDAT": part[b"IDAT"]}).items()))))
    content = jpeg_file(SEVEN)
    start = content.index(b"\xff\xda")
    cut = content[: start + (len(content) - start) * rows // 28] + b"\xff\xd9"
    assert "incomplete or damaged" in await refused(client, as_input(cut))


async def test_a_seven_is_one_in_every_writing_of_base64(client: httpx.AsyncClient) -> None:
    """Data URL, lines, trailing newline, url-safe, unpadded."""
    content = turned(SEVEN, "PNG", 1)
    plain = base64.b64encode(content).decode()
    written = [
        f"data:image/png;base64,{plain}",
        "\r\n".join(textwrap.wrap(plain, 76)),
        f"{plain}\n",
        base64.urlsafe_b64encode(content).decode(),
        plain.rstrip("="),
    ]
    assert await labels(client, [{"image": text} for text in written]) == [7] * len(written)


async def test_the_network_reads_white_on_black(client: httpx.AsyncClient) -> None:
    """As its documents say: a black seven on white is not guessed to be one, it is another picture."""
    assert await labels(client, [as_input(turned(255 - SEVEN, "PNG", 1))]) != [7]
