"""The examples that the playground carries are what they are said to be."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.votes import cast_votes
from noisevote.training.commands.options import STORE
from noisevote.training.report.page_examples import DIGITS, FILE, PICTURES, Choice, hard_ones
from tests.support.digits import stored_digits, stored_strokes

SHAPES = {"digits": (1, 28, 28), "pictures": (3, 32, 32)}
CHOICES = {"digits": DIGITS, "pictures": PICTURES}


@pytest.fixture(scope="module")
def carried() -> dict[str, Any]:
    """The page's file."""
    read: dict[str, Any] = json.loads(FILE.read_text())
    return read


def pixels(entry: dict[str, Any]) -> NDArray[np.uint8]:
    """Bytes of an entry's image."""
    return np.frombuffer(base64.b64decode(entry["image"]), np.uint8)


def test_digits_are_the_test_sets(carried: dict[str, Any]) -> None:
    """Images, labels and pen points of those that the tests keep; the others lie beyond them."""
    images, strokes = stored_digits(), stored_strokes()
    kept = [entry for entry in carried["digits"]["examples"] if entry["number"] < len(images)]
    assert len(kept) >= 4
    for entry in kept:
        number = entry["number"]
        assert entry["label"] == images.labels[number]
        assert np.array_equal(pixels(entry), images.inputs[number].ravel())
        points = np.frombuffer(base64.b64decode(entry["points"]), np.uint8).reshape(-1, 2)
        assert np.array_equal(points, strokes.inputs[number])


@pytest.mark.parametrize("kind", ["digits", "pictures"])
def test_attacked_ones_are_near_their_originals_and_do_what_they_are_said_to(
    carried: dict[str, Any], kind: str
) -> None:
    """Within eps; the undefended network reads all of them wrong, the defended one none; each original is carried."""
    family, choice = carried[kind], CHOICES[kind]
    originals = {entry["id"]: entry for entry in family["examples"]}
    attacked = np.stack([pixels(entry) for entry in family["attacks"]])
    sources = np.stack([pixels(originals[entry["of"]]) for entry in family["attacks"]])
    assert np.abs(attacked.astype(int) - sources).max() <= round(255 * family["attack"]["eps"])
    labels = np.array([originals[entry["of"]]["label"] for entry in family["attacks"]])
    assert not (said(choice.undefended, attacked, labels, kind) == labels).any()
    assert (said(choice.defended, attacked, labels, kind) == labels).all()
    assert (said(choice.undefended, sources, labels, kind) == labels).all()


def said(chosen: str, images: NDArray[np.uint8], labels: NDArray[np.int64], kind: str) -> NDArray[np.int64]:
    """What a published variant reads without noise."""
    examples = Examples(images.reshape(-1, *SHAPES[kind]), labels)
    engine = OnnxRuntime(STORE / f"{chosen}.onnx")
    return cast_votes(engine, examples, ("multiplicative", 0.0), Plan(("multiplicative",), (0.0,), 1, 0))[:, 0]


def test_some_twenty_are_carried_hard_ones_among_them(carried: dict[str, Any]) -> None:
    """Each choice is filled: a class each, and so many that noisy votes are split on or read wrong."""
    for kind, choice in CHOICES.items():
        examples = carried[kind]["examples"]
        assert [entry["label"] for entry in examples if not entry["hard"]] == list(choice.easy)
        assert sum(entry["hard"] for entry in examples) == choice.hard
        assert carried[kind]["attack"]["eps"] == choice.steps.eps
        assert isinstance(choice, Choice)


def test_hard_ones_are_half_wrong_and_half_split() -> None:
    """Those that most votes are against, and of those that most votes are for the ones with most against."""
    assert hard_ones(np.array([0, 20, 11, 10, 3, 9]), 4) == [1, 2, 3, 5]
