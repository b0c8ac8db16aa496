"""Elements of tensors: as they were sent, whatever their form, and nothing that does not fit."""

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisevote.service.errors import InvalidValueError
from noisevote.service.open_inference.call import Tensor
from noisevote.service.open_inference.datatypes import BYTES, NUMBERS, elements, numbers, packed
from noisevote.service.open_inference.options import read_runs, shortest


@given(st.sampled_from(sorted(NUMBERS)), st.lists(st.integers(0, 1), min_size=1, max_size=6))
def test_numbers_are_the_same_in_json_and_binary(datatype: str, values: list[int]) -> None:
    """Of every datatype."""
    dtype, shape = NUMBERS[datatype], (len(values),)
    data: list[Any] = np.array(values, dtype).tolist()
    sent = (
        numbers(Tensor("a", datatype, shape, data=data), "a"),
        numbers(Tensor("a", datatype, shape, raw=np.array(values, dtype).tobytes()), "a"),
    )
    assert all((each == np.array(values, dtype)).all() and each.dtype == dtype for each in sent)


@given(st.lists(st.text(), max_size=5))
def test_texts_survive_being_packed(texts: list[str]) -> None:
    """BYTES are lengths and bytes; as JSON they are texts."""
    raw = packed([text.encode() for text in texts])
    assert elements(Tensor("a", BYTES, (len(texts),), raw=raw), "a") == texts
    assert elements(Tensor("a", BYTES, (len(texts),), data=list(texts)), "a") == texts


@given(st.binary(max_size=40), st.integers(0, 4))
def test_whatever_bytes_come_are_read_or_refused(raw: bytes, count: int) -> None:
    """Lengths that point beyond the end, numbers of elements that are others, and no UTF-8."""
    for datatype in (BYTES, "INT64", "FP32", "BOOL"):
        with suppress(InvalidValueError):
            assert len(elements(Tensor("a", datatype, (count,), raw=raw), "a")) == count


@given(st.floats(1e-30, 10))
def test_a_decimal_number_survives_float32(value: float) -> None:
    """What a client wrote with up to six digits is what /v1 would have been told."""
    written = float(f"{value:.6g}")
    assert shortest(float(np.float32(written)), "FP32") == written


def test_runs_share_a_seed_or_have_their_own() -> None:
    """Neighbours with equal options are one run; with a seed per input each is by itself and draws with it."""
    runs, given = read_runs({"seed": 7}, {"sigma": [0.1, 0.1, 0.5], "votes": [3]}, 3)
    assert [(run.start, run.stop, run.origin, run.options.sigma) for run in runs] == [(0, 2, 0, 0.1), (2, 3, 0, 0.5)]
    assert given == {"seed", "sigma", "votes"}
    own, _ = read_runs({}, {"seed": [7, 7]}, 2)
    assert [(run.start, run.stop, run.origin) for run in own] == [(0, 1, 0), (1, 2, 1)]
    with pytest.raises(InvalidValueError, match=r"of inputs\[1\]: sigma: 11.0"):
        read_runs({}, {"sigma": [1.0, 11.0]}, 2)
