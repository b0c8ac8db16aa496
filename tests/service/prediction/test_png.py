"""PNG of every colour type and depth, against the samples that went in."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from noisevote.model_store.manifest import InputSpec
from noisevote.service.errors import InvalidValueError
from noisevote.service.prediction.inputs import decode_inputs
from noisevote.service.prediction.picture import BadPictureError
from noisevote.service.prediction.png import read_png
from tests.support.pictures import (
    CHANNELS,
    DEPTHS,
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGB_ALPHA,
    Chunk,
    as_input,
    png_chunks,
    png_of,
    with_chunk,
)

COLOURS = bytes(range(7, 250))  # 81 colours
RNG = np.random.default_rng(5)


def drawn(colour: int, depth: int, size: tuple[int, int] = (5, 4), seed: int = 0) -> NDArray[np.int64]:
    """Samples [height, width, channels] of a kind of PNG, opaque where it has alpha."""
    width, height = size
    top = min(2**depth, len(COLOURS) // 3) if colour == PALETTE else 2**depth
    samples = np.random.default_rng(seed).integers(0, top, (height, width, CHANNELS[colour]))
    if colour in {GREY_ALPHA, RGB_ALPHA}:
        samples[..., -1] = 2**depth - 1
    return samples


def chunks_of(colour: int, depth: int, **options: Any) -> tuple[NDArray[np.int64], list[Chunk]]:
    """Samples and a sound file of them."""
    samples = drawn(colour, depth)
    palette = COLOURS[: 3 * 2**depth] if colour == PALETTE else b""
    return samples, png_chunks(samples, colour, depth, palette=palette, **options)


def decoded(content: bytes, channels: int = 3, size: tuple[int, int] = (5, 4)) -> NDArray[np.float32]:
    """What a model of the range 0 … 1 gets, [channels, height, width]."""
    width, height = size
    return np.asarray(decode_inputs([as_input(content)], InputSpec(shape=(channels, height, width)))[0])


def refusal(content: bytes, channels: int = 3) -> str:
    """The message of a file that must be refused."""
    with pytest.raises(InvalidValueError) as refused:
        decoded(content, channels)
    return str(refused.value)


def brightness(samples: NDArray[np.int64], colour: int, depth: int) -> NDArray[np.float64]:
    """Red, green and blue as shares of full brightness, [3, height, width]."""
    if colour == PALETTE:
        rgb = np.frombuffer(COLOURS, np.uint8).reshape(-1, 3)[samples[..., 0]] / 255
    else:
        rgb = samples[..., : 3 if colour in {RGB, RGB_ALPHA} else 1] / (2**depth - 1)
    return np.moveaxis(np.broadcast_to(rgb, (*samples.shape[:2], 3)), 2, 0)


@given(st.sampled_from(DEPTHS), st.booleans(), st.tuples(st.integers(1, 20), st.integers(1, 12)), st.integers(0, 2**32))
def test_samples_are_scaled_from_their_own_depth(
    kind: tuple[int, int], interlaced: bool, size: tuple[int, int], seed: int
) -> None:
    """In every colour type, 16 bits by 65535, interlaced or not, under all filters; nothing is cut to 8 bits."""
    colour, depth = kind
    samples = drawn(colour, depth, size, seed)
    palette = COLOURS[: 3 * 2**depth] if colour == PALETTE else b""
    content = png_of(png_chunks(samples, colour, depth, interlaced=interlaced, palette=palette, seed=seed))
    np.testing.assert_array_equal(
        decoded(content, size=size), brightness(samples, colour, depth).astype(np.float32), strict=True
    )
    with Image.open(io.BytesIO(content)) as image:  # the file is what another reader takes it for
        seen = np.moveaxis(np.asarray(image.convert("RGB")), 2, 0)
    if depth <= 8:
        np.testing.assert_array_equal(seen, np.rint(brightness(samples, colour, depth) * 255))


@pytest.mark.parametrize(("colour", "depth"), [(RGB, 8), (RGB, 16), (RGB_ALPHA, 8), (RGB_ALPHA, 16)])
def test_colour_for_a_grey_model_is_its_luma(colour: int, depth: int) -> None:
    """ITU-R 601, rounded to the picture's own depth; of 8 bits to the bit as Pillow has it."""
    samples, chunks = chunks_of(colour, depth)
    (grey,) = decoded(png_of(chunks), channels=1)
    luma = samples[..., :3] @ (0.299, 0.587, 0.114)
    np.testing.assert_allclose(grey * (2**depth - 1), luma, atol=0.51 if depth == 8 else 1.1)
    if depth == 8:
        with Image.open(io.BytesIO(png_of(chunks))) as image:
            np.testing.assert_array_equal(np.rint(grey * 255), np.asarray(image.convert("L")))


@pytest.mark.parametrize(("colour", "depth"), DEPTHS)
def test_transparency_is_refused_alike(colour: int, depth: int) -> None:
    """One pixel that is not opaque is enough, by alpha or by a transparent colour, in every colour type and depth."""
    samples, chunks = chunks_of(colour, depth)
    pixel = samples[2, 3]
    if colour in {GREY_ALPHA, RGB_ALPHA}:
        samples[2, 3, -1] -= 1
        chunks = png_chunks(samples, colour, depth)
    elif colour == PALETTE:
        chunks = with_chunk(chunks, b"IDAT", (b"tRNS", b"\xff" * int(pixel[0]) + b"\xfe"))
    else:
        chunks = with_chunk(chunks, b"IDAT", (b"tRNS", pixel.astype(">u2").tobytes()))
    assert "the image is transparent" in refusal(png_of(chunks))


@pytest.mark.parametrize(("colour", "depth"), [(GREY, 2), (GREY, 4), (GREY, 8), (GREY, 16), (RGB, 8), (RGB, 16)])
def test_a_transparent_colour_that_no_pixel_has_hides_nothing(colour: int, depth: int) -> None:
    """Also where it differs in the lowest bit alone, which 8 bits would not show."""
    samples = drawn(colour, depth) // 2 * 2
    chunks = png_chunks(samples, colour, depth)
    colour_beside = (samples[0, 0] + 1).astype(">u2").tobytes()
    content = png_of(with_chunk(chunks, b"IDAT", (b"tRNS", colour_beside)))
    np.testing.assert_array_equal(decoded(content), decoded(png_of(chunks)))


def test_an_opaque_palette_with_transparent_colours_unused_is_read() -> None:
    """Only the colours that pixels have count, and those that tRNS does not reach are opaque."""
    samples = np.full((4, 5, 1), 3)
    chunks = png_chunks(samples, PALETTE, 8, palette=COLOURS)
    content = png_of(with_chunk(chunks, b"IDAT", (b"tRNS", b"\0\0\0")))
    np.testing.assert_array_equal(decoded(content), decoded(png_of(chunks)))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("missing", [1, 2, 3])
def test_missing_rows_are_refused(missing: int, interlaced: bool) -> None:
    """Though the file is sound otherwise: a decoder would show them black."""
    _, chunks = chunks_of(GREY, 8, interlaced=interlaced)
    raw = zlib.decompress(dict(chunks)[b"IDAT"])
    short = [(kind, zlib.compress(raw[: -6 * missing]) if kind == b"IDAT" else data) for kind, data in chunks]
    assert "incomplete" in refusal(png_of(short))


def test_a_file_cut_anywhere_is_refused() -> None:
    """Before its last chunk is whole it is not the whole picture."""
    content = png_of(chunks_of(RGB, 8)[1])
    for length in range(len(content)):
        assert "inputs[0].image: " in refusal(content[:length])


def test_palette_indices_beyond_the_palette_are_refused() -> None:
    """A decoder would show them black."""
    chunks = png_chunks(np.full((4, 5, 1), 9), PALETTE, 4, palette=COLOURS[:27])
    assert "incomplete: a pixel has colour 9 of a palette of 9" in refusal(png_of(chunks))


def test_a_palette_is_needed_before_the_pixels() -> None:
    """Without one, or with one after them, the picture has no colours."""
    _, (header, palette, pixels, end) = chunks_of(PALETTE, 4)
    assert "incomplete: its palette is missing" in refusal(png_of([header, pixels, end]))
    assert "PLTE is in the wrong place" in refusal(png_of([header, pixels, palette, end]))
    assert "palette" in refusal(png_of([header, (b"PLTE", COLOURS[:7]), pixels, end]))


@pytest.mark.parametrize("profile", [b"", b"x", b"name\0", b"name\0\0", b"\0" * 90])
@pytest.mark.parametrize("place", [b"IDAT", b"IEND"])
def test_what_is_not_needed_is_not_read(profile: bytes, place: bytes) -> None:
    """Broken colour profiles, times and texts, before or after the pixels, are as if they were not there."""
    _, chunks = chunks_of(GREY, 8)
    more = [(kind, profile) for kind in (b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"pHYs", b"gAMA", b"acTL", b"fcTL")]
    content = png_of(with_chunk(chunks, place, *more))
    np.testing.assert_array_equal(decoded(content), decoded(png_of(chunks)))


def test_pixels_in_many_chunks_are_one_picture() -> None:
    """As encoders with small buffers write them; with something between them they are not."""
    _, (header, (_, packed), end) = chunks_of(GREY, 8)
    parts = [(b"IDAT", packed[i : i + 3]) for i in range(0, len(packed), 3)]
    np.testing.assert_array_equal(
        decoded(png_of([header, *parts, end])), decoded(png_of([header, (b"IDAT", packed), end]))
    )
    assert "IDAT is in the wrong place" in refusal(png_of([header, parts[0], (b"tEXt", b"a\0b"), *parts[1:], end]))


def header(width: int = 5, height: int = 4, depth: int = 8, colour: int = 0, *rest: int) -> bytes:
    """The header of a PNG."""
    return struct.pack(">IIBBBBB", width, height, depth, colour, *(rest or (0, 0, 0)))


@pytest.mark.parametrize(
    "content",
    [
        header(depth=3), header(depth=0), header(colour=1), header(colour=5), header(depth=16, colour=3),
        header(5, 4, 8, 0, 1, 0, 0), header(5, 4, 8, 0, 0, 1, 0), header(5, 4, 8, 0, 0, 0, 2),
        header(width=0), header(height=2**31), b"", header()[:-1],
    ],
    ids=bytes.hex,
)  # fmt: skip
def test_headers_that_no_png_has_are_refused(content: bytes) -> None:
    """By what they say, before anything is unpacked."""
    with pytest.raises(BadPictureError, match="damaged"):
        read_png(png_of([(b"IHDR", content), *chunks_of(GREY, 8)[1][1:]]))


def changed(chunks: list[Chunk], packed: bytes) -> bytes:
    """The same file with other packed pixels."""
    return png_of([(kind, packed if kind == b"IDAT" else data) for kind, data in chunks])


def test_damaged_pixels_are_refused() -> None:
    """A wrong checksum of a chunk or of the pixels, an unknown filter, too many rows, no end, no pixels at all."""
    _, chunks = chunks_of(GREY, 8)
    packed = dict(chunks)[b"IDAT"]
    raw = zlib.decompress(packed)
    content = bytearray(png_of(chunks))
    content[-14] ^= 1
    assert "checksum" in refusal(bytes(content))
    assert "incorrect data check" in refusal(changed(chunks, packed[:-1] + bytes([packed[-1] ^ 1])))
    assert "damaged" in refusal(changed(chunks, zlib.compress(b"\5" + raw[1:])))
    assert "more than" in refusal(changed(chunks, zlib.compress(raw + b"\0")))
    assert "no end of them" in refusal(changed(chunks, packed[:-4]))
    assert "incomplete" in refusal(changed(chunks, b""))


def test_chunks_that_nobody_knows_are_read_over_unless_the_picture_depends_on_them() -> None:
    """A capital first letter means that it does; Apple's CgBI, for one, swaps red and blue."""
    _, chunks = chunks_of(GREY, 8)
    np.testing.assert_array_equal(decoded(png_of(with_chunk(chunks, b"IDAT", (b"teSt", b"")))), decoded(png_of(chunks)))
    assert "b'TeSt'" in refusal(png_of(with_chunk(chunks, b"IDAT", (b"TeSt", b""))))
    assert "damaged" in refusal(png_of([(b"CgBI", b"\0\0\0\0"), *chunks]))
    assert "damaged" in refusal(png_of(with_chunk(chunks, b"IDAT", chunks[0])))


def test_a_small_file_cannot_unpack_to_much() -> None:
    """Of packed pixels only as many bytes are unpacked as the picture has, and chunks are counted."""
    _, chunks = chunks_of(GREY, 8)
    assert "more than the 24 bytes" in refusal(changed(chunks, zlib.compress(bytes(50_000_000), 9)))
    assert "more than 20000 chunks" in refusal(png_of([chunks[0], *[(b"teSt", b"")] * 20_000, *chunks[1:]]))


def test_want_of_memory_is_not_the_pictures_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else a decoder raises is."""
    raised: Exception = MemoryError()

    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(Image, "frombytes", fail)
    content = png_of(chunks_of(GREY, 8)[1])
    with pytest.raises(MemoryError):
        decoded(content)
    raised = RuntimeError("a defect of the decoder")
    assert "damaged: a defect of the decoder" in refusal(content)
