"""Damaged picture files by the thousand: each is read or refused, and nothing else happens."""

import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from noisevote.model_store.manifest import InputSpec
from noisevote.service.errors import InvalidValueError
from noisevote.service.prediction.inputs import decode_inputs
from tests.support.pictures import (
    CHANNELS,
    DEPTHS,
    PALETTE,
    Chunk,
    as_input,
    jpeg_file,
    orientation_tag,
    png_chunks,
    png_of,
    with_chunk,
)

SIDE = 17
JPEGS = ({"mode": "L"}, {"mode": "RGB"}, {"mode": "CMYK"}, {"mode": "RGB", "progressive": True})
Random = np.random.Generator


def sound_chunks() -> list[list[Chunk]]:
    """PNG of all kinds, with what else may be in them."""
    rng = np.random.default_rng(1)
    files = []
    for colour, depth in DEPTHS:
        full = 2**depth - 1
        samples = rng.integers(0, min(2, full) if colour == PALETTE else full, (SIDE, SIDE, CHANNELS[colour]))
        if colour > PALETTE:
            samples[..., -1] = full  # alpha
        palette = bytes(6) if colour == PALETTE else b""
        for interlaced in (False, True):
            chunks = png_chunks(samples, colour, depth, interlaced=interlaced, palette=palette)
            more = [(b"iCCP", b"name\0\0" + zlib.compress(bytes(99))), (b"eXIf", orientation_tag(6))]
            transparent = [] if colour > PALETTE else [(b"tRNS", b"\xff" * 2 * CHANNELS[colour])]
            files.append(with_chunk(chunks, b"IDAT", *more, *transparent))
    return files


def sound_jpegs() -> list[bytes]:
    """JPEG of all kinds, turned."""
    pixels = np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE)))
    exif = b"Exif\0\0" + orientation_tag(8)
    return [jpeg_file(pixels, exif=exif, **kind) for kind in JPEGS]


def cut(content: bytes, rng: Random) -> bytes:
    """Its beginning, sometimes with its end."""
    length = int(rng.integers(len(content)))
    return content[:length] + (content[-12:] if rng.random() < 0.5 else b"")


def flip(content: bytes, rng: Random) -> bytes:
    """Some other bytes, often of those that lengths are made of."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        changed[rng.integers(len(changed))] = (0, 1, 127, 128, 255, int(rng.integers(256)))[rng.integers(6)]
    return bytes(changed)


def splice(content: bytes, rng: Random) -> bytes:
    """A piece taken out, doubled or zeroed."""
    start, end = sorted(rng.integers(len(content) + 1, size=2).tolist())
    piece = content[start:end]
    return content[:start] + (b"", piece * 2, bytes(len(piece)))[rng.integers(3)] + content[end:]


def scramble(chunks: list[Chunk], rng: Random) -> bytes:
    """Chunks changed, exchanged, left out or doubled, under checksums that are right."""
    changed = list(chunks)
    for _ in range(int(rng.integers(1, 4))):
        here, there = rng.integers(len(changed), size=2)
        kind, data = changed[here]
        match rng.integers(6):
            case 0:
                changed[here], changed[there] = changed[there], changed[here]
            case 1:
                changed.insert(int(there), changed[here])
            case 2 if len(changed) > 1:
                del changed[here]
            case 3 if kind == b"IDAT":
                changed[here] = (kind, _other_rows(data, rng))
            case 4:
                changed[here] = (kind, data[: rng.integers(len(data) + 1)])
            case _ if data:
                changed[here] = (kind, flip(data, rng))
    return png_of(changed)


def _other_rows(packed: bytes, rng: Random) -> bytes:
    try:
        rows = zlib.decompress(packed)
    except zlib.error:
        return packed
    return zlib.compress(flip(rows, rng)[: rng.integers(len(rows) // 2, len(rows) + 2)])


def outcome(content: bytes) -> bool:
    """Whether it is read; anything but our own refusal is a defect."""
    spec = InputSpec(shape=(1 + 2 * (len(content) % 2), SIDE, SIDE))
    try:
        decoded = decode_inputs([as_input(content)], spec)
    except InvalidValueError as error:
        refusal = str(error)
    else:
        assert np.isfinite(decoded).all()
        return True
    assert refusal.startswith("inputs[0].image: ")
    assert len(refusal) < 300
    return False


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.prove)])
def test_a_damaged_picture_is_read_or_refused(count: int) -> None:
    """Whatever a decoder raises is the picture's fault: no other exception, no warning, and no endless message."""
    rng, chunked = np.random.default_rng(17), sound_chunks()
    files = [png_of(chunks) for chunks in chunked] + sound_jpegs()
    assert all(map(outcome, files))
    ways: tuple[Callable[[bytes, Random], bytes], ...] = (cut, flip, splice)
    read = 0
    for number in range(count):
        if number % 4 == 0:
            content = scramble(chunked[rng.integers(len(chunked))], rng)
        else:
            content = ways[number % 4 - 1](files[rng.integers(len(files))], rng)
        read += outcome(content)
    assert 0 < read < count / 2
