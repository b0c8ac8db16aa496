"""Digits of the pen-stroke test set, replayed as pointer events: the drawing's path to the networks is the data's."""

import base64
import os
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from noisevote.evaluation.examples import Examples
from noisevote.training.data import mnist, strokes
from noisevote.training.data.files import DataSource
from tests.end_to_end.playground.conftest import Opener
from tests.support.browser import missing
from tests.support.digits import stored_digits, stored_strokes

WHY = missing()
pytestmark = [pytest.mark.prove, pytest.mark.skipif(WHY is not None, reason=str(WHY))]
COUNT = 100
WITHIN = 3


def replayed_digits() -> tuple[Examples, Examples]:
    """Images and pen points of the first 100 test digits; of 64, where the whole data set is not at hand."""
    folder = os.environ.get("NOISEVOTE_DATA")
    if folder and (Path(folder) / strokes.FOLDER / strokes.FILE).exists():
        source = DataSource.from_environment()
        return mnist.load(source).test.first(COUNT), strokes.load(source).test.first(COUNT)
    return stored_digits(), stored_strokes()


def strokes_of(points: NDArray[np.float32]) -> list[list[tuple[float, float]]]:
    """A digit's points as strokes in shares of the surface; the pen is lifted where it jumps."""
    cuts = np.flatnonzero(np.abs(np.diff(points, axis=0)).max(axis=1) > 1) + 1
    return [[((x + 0.5) / 28, (y + 0.5) / 28) for x, y in part.tolist()] for part in np.split(points, cuts)]


def read_directly(base: str, images: Examples, points: Examples) -> list[int]:
    """How many digits each network reads right when it is asked for them as they are stored."""
    counts = []
    pixels = [{"b64": base64.b64encode(each.tobytes()).decode(), "dtype": "uint8"} for each in images.inputs]
    for model, inputs in (("mnist-cnn", pixels), ("stroke-lstm", points.inputs.tolist())):
        answer = httpx.post(
            f"{base}/v1/models/{model}/predict", json={"inputs": inputs, "votes": 1}, timeout=120
        ).json()
        said = [prediction["index"] for prediction in answer["predictions"]]
        counts.append(int((np.array(said) == images.labels).sum()))
    return counts


def test_replayed_digits_are_read_as_often_as_stored_ones(opener: Opener, published: str) -> None:
    """By both networks, within 3 of 100; without noise, so that nothing but the path differs."""
    images, points = replayed_digits()
    page = opener("/#s=0&n=1")
    right = np.zeros(2, np.int64)
    for pen, label in zip(points.inputs, images.labels.tolist(), strict=True):
        page.page.evaluate("document.querySelector('#clear').click()")
        page.draw(strokes_of(np.asarray(pen)))
        _, picture, strokes_read = page.settle()
        right += [picture["label"] == str(label), strokes_read["label"] == str(label)]
    directly = read_directly(published, images, points)
    print(f"of {len(images)} digits, picture and pen: drawn {right.tolist()}, stored {directly}")
    assert all(abs(drawn - stored) <= WITHIN for drawn, stored in zip(right.tolist(), directly, strict=True))
