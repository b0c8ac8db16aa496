import hashlib
import io
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from noisevote.evaluation.examples import Examples
from noisevote.training.data import registry, strokes
from noisevote.training.data.files import CorruptDataError, DataSource, MissingDataError

STORED = Path(__file__).parents[2] / "data" / "mnist_strokes.npz"

MOVE = st.tuples(st.integers(-3, 3), st.integers(-3, 3))
SEQUENCE = st.lists(MOVE, min_size=1, max_size=9).filter(lambda moves: moves[0] != (0, 0))
MOVES = st.lists(SEQUENCE, min_size=1, max_size=5)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the strokes of 64 digits, as training and as test examples, whose hash is the published one."""
    file = io.BytesIO()
    with np.load(STORED) as stored:
        arrays: dict[str, Any] = {f"{part}_{name}": stored[name] for part in ("train", "test") for name in stored}
    np.savez_compressed(file, **arrays)
    monkeypatch.setattr(strokes, "SHA256", hashlib.sha256(file.getvalue()).hexdigest())
    (tmp_path / strokes.FILE).write_bytes(file.getvalue())
    return tmp_path


def plainly(moves: list[list[tuple[int, int]]]) -> list[list[tuple[int, int]]]:
    """The pixels of each sequence, point by point."""
    sequences = []
    for sequence in moves:
        x, y, points = -1, -1, []
        for dx, dy in sequence:
            x, y = x + dx, y + dy
            if (dx, dy) != (0, 0):
                points.append((x, y))
        sequences.append(points)
    return sequences


def in_arrays(moves: list[list[tuple[int, int]]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of all sequences and their offsets."""
    return np.array(list(chain.from_iterable(moves)), np.int64), np.cumsum([0, *map(len, moves)])


@given(MOVES)
def test_points_are_the_summed_movements(moves: list[list[tuple[int, int]]]) -> None:
    """Each sequence starts from its own first row, counted from 1, and rows that move nothing make no point."""
    points, offsets = strokes.pen_points(*in_arrays(moves))
    sequences = [points[a:b].tolist() for a, b in pairwise(offsets)]
    assert sequences == [[list(point) for point in sequence] for sequence in plainly(moves)]


@given(MOVES, st.integers(1, 12))
def test_sequences_are_cut_or_continued_with_their_last_point(moves: list[list[tuple[int, int]]], length: int) -> None:
    """A longer one loses its end, a shorter one stands still at it."""
    inputs = strokes.of_one_length(*strokes.pen_points(*in_arrays(moves)), length)
    assert inputs.dtype == np.float32
    for found, points in zip(inputs, plainly(moves), strict=True):
        expected = (points + [points[-1]] * length)[:length]
        assert found.tolist() == [[float(x), float(y)] for x, y in expected]


def test_strokes_stay_inside_the_image_and_near_their_digit(published: Path, digits: Examples) -> None:
    """Inputs are pixels of 28×28, and 9 of 10 pen points lie on ink of the digit of the same number, or beside it."""
    loaded = registry.load("mnist-strokes", DataSource(folder=published))
    assert loaded.test.inputs.shape == (64, 56, 2)
    assert loaded.test.inputs.min() >= 0
    assert loaded.test.inputs.max() <= 27
    assert np.array_equal(loaded.test.labels, digits.labels)
    ink = np.pad(digits.inputs[:, 0], ((0, 0), (1, 1), (1, 1))).astype(bool)
    shifts = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    near = np.logical_or.reduce([np.roll(ink, shift, (1, 2)) for shift in shifts])
    x, y = loaded.test.inputs.astype(np.int64).transpose(2, 0, 1) + 1
    assert near[np.arange(64)[:, np.newaxis], y, x].mean() > 0.9
    assert loaded.hashes == {strokes.FILE: f"sha256:{strokes.SHA256}"}


def test_another_file_is_refused_by_hash(published: Path) -> None:
    """One changed byte is an error that names the file and both hashes."""
    content = bytearray((published / strokes.FILE).read_bytes())
    content[-1] ^= 1
    (published / strokes.FILE).write_bytes(content)
    with pytest.raises(CorruptDataError, match=strokes.FILE) as caught:
        registry.load("mnist-strokes", DataSource(folder=published))
    assert hashlib.sha256(content).hexdigest() in str(caught.value)
    assert strokes.SHA256 in str(caught.value)


@pytest.mark.parametrize("named", [True, False])
def test_missing_file_says_where_it_could_be(tmp_path: Path, named: bool) -> None:
    """As it cannot be downloaded, the error names the folders that were looked in and where the data comes from."""
    source = DataSource(folder=tmp_path) if named else DataSource(cache=tmp_path)
    with pytest.raises(MissingDataError) as caught:
        registry.load("mnist-strokes", source)
    assert str(tmp_path / strokes.FOLDER) in str(caught.value)
    assert strokes.ORIGINAL in str(caught.value)
