import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisevote.client import InputError
from noisevote.client.inputs import written
from tests.support.process import DIGIT

IMAGE = {"image": base64.b64encode(DIGIT.read_bytes()).decode()}
VALUES = np.random.default_rng(1).random((2, 1, 3, 3)).astype(np.float32)


def values(written_input: dict[str, str]) -> np.ndarray:
    """The numbers of an array that was written."""
    return np.frombuffer(base64.b64decode(written_input["b64"]), written_input["dtype"])


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", ">f4"])
def test_an_array_is_a_batch_of_float32(kind: str) -> None:
    """Its first axis is that of the inputs; order and byte order in memory do not matter."""
    given = np.asfortranarray(VALUES.astype(kind))
    sent = written(given)
    assert [each["dtype"] for each in sent] == ["float32"] * 2
    for one, each in zip(given, sent, strict=True):
        np.testing.assert_array_equal(values(each), one.astype(np.float32).ravel())


def test_samples_of_8_bits_stay_so() -> None:
    """The server scales them onto the model's range."""
    (sent,) = written(np.arange(9, dtype=np.uint8).reshape(1, 1, 3, 3))
    assert sent["dtype"] == "uint8"
    np.testing.assert_array_equal(values(sent), np.arange(9))


@pytest.mark.parametrize("kind", ["int64", "int8", "bool", "complex64", "U1"])
def test_what_could_be_meant_in_two_ways_is_refused(kind: str) -> None:
    """Integers of another width are 0 … 255 for one and values of the model for another."""
    with pytest.raises(InputError, match=f"an array of {np.dtype(kind)}"):
        written(np.zeros((1, 3), kind))
    with pytest.raises(InputError, match="without axes"):
        written(np.array(3.0))


def test_a_file_alone_is_what_it_holds(tmp_path: Path) -> None:
    """A picture, arrays, or a request's body; by its path, text or not, or by its bytes."""
    np.save(tmp_path / "inputs.npy", VALUES)
    (tmp_path / "body.json").write_text(json.dumps({"inputs": VALUES.tolist(), "sigma": 1}))
    (tmp_path / "list.json").write_text(json.dumps(VALUES.tolist()))
    for picture in (DIGIT, str(DIGIT), DIGIT.read_bytes()):
        assert written(picture) == [IMAGE]
    assert written(tmp_path / "inputs.npy") == written(VALUES)
    assert written(tmp_path / "body.json") == written(str(tmp_path / "list.json")) == VALUES.tolist()


def test_a_list_has_inputs_of_any_kind(tmp_path: Path) -> None:
    """Each is an array of the model's shape, a file, a picture's bytes, or what the API takes as it is."""
    np.save(tmp_path / "inputs.npy", VALUES)
    given: list[Any] = [VALUES[0], DIGIT, tmp_path / "inputs.npy", [[0.0]], {"image": "…"}]
    assert written(given) == [*written(VALUES[:1]), IMAGE, *written(VALUES), [[0.0]], {"image": "…"}]


@pytest.mark.parametrize(("name", "content"), [("x.npy", b"no array"), ("x.json", b"{"), ("x.json", b'{"a": 1}')])
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """So is one that is not there."""
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / name, tmp_path / "none.png"):
        with pytest.raises(InputError, match=str(path)):
            written(path)
