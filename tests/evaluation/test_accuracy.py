import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from noisevote.engine.feeds import Feeds
from noisevote.evaluation import results
from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.results import EvaluationError
from noisevote.evaluation.votes import cast_votes
from tests.support.oracle import Oracle, told

PLAN = Plan(kinds=("multiplicative", "additive"), sigmas=(0.0, 0.7), votes=4, seed=11)


def test_any_vote_can_be_cast_again_alone(exported: Path, digits: Examples) -> None:
    """Vote v of image i depends on seed + i and v alone: one row by itself gives the vote of the whole evaluation."""
    engine = OnnxRuntime(exported)
    votes = cast_votes(engine, digits, ("multiplicative", 0.7), PLAN)
    assert votes.shape == (64, 4)
    for image, vote in ((0, 0), (17, 3), (63, 1)):
        alone = Feeds(
            input=digits.values(slice(image, image + 1)),
            sigma=np.array([[0.7, 0.0]], np.float32),
            seed=np.array([PLAN.seed + image]),
            vote=np.array([vote]),
            row=np.array([0]),
        )
        assert engine.logits(alone).argmax() == votes[image, vote]


def test_noiseless_cell_is_measured_once(exported: Path, digits: Examples, tmp_path: Path) -> None:
    """At sigma 0 one vote an image is cast, under the first kind of noise only."""
    evaluation = evaluate(OnnxRuntime(exported), tmp_path / "results.json", digits.first(6), PLAN)
    assert [(cell.noise, cell.sigma, cell.passes) for cell in evaluation.cells] == [
        ("additive", 0.7, 4),
        ("multiplicative", 0.0, 1),
        ("multiplicative", 0.7, 4),
    ]


@pytest.mark.parametrize("classes", [2, 400, 1000])
def test_perfect_classifier_measures_100_percent(classes: int, tmp_path: Path) -> None:
    """Labels and votes are numbers of any size: every class is told from every other, by mode and by probability."""
    plan = Plan(("multiplicative",), (0.0, 0.5), votes=3, seed=0)
    evaluation = evaluate(Oracle(tmp_path / "oracle", classes), tmp_path / "r.json", told(np.arange(classes)), plan)
    found = [(m.votes, m.accuracy, m.soft_accuracy) for cell in evaluation.cells for m in cell.measured]
    assert found == [(1, 1.0, 1.0), (1, 1.0, 1.0), (2, 1.0, 1.0), (3, 1.0, 1.0)]


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """10,000 images of 100 votes are measured in a few megabytes, though their logits alone would fill 40."""
    examples = told(np.arange(10_000) % 10)
    engine = Oracle(tmp_path / "oracle", classes=10, rows=2000)
    tracemalloc.start()
    try:
        evaluation = evaluate(engine, tmp_path / "r.json", examples, Plan(("additive",), (0.5,), votes=100, seed=0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert evaluation.cells[0].measured[-1].votes == 100
    assert peak < 10e6


def test_logits_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    """An overflowing network is named with the noise that it was under, and nothing is written of that cell."""
    engine = Oracle(tmp_path / "oracle", classes=3, surest=np.inf)
    with pytest.raises(EvaluationError, match=r"oracle: logits under additive noise of sigma 0\.5 are not numbers"):
        evaluate(engine, tmp_path / "r.json", told(np.arange(3)), Plan(("additive",), (0.5,), votes=1, seed=0))
    assert not (tmp_path / "r.json").exists()


def test_cells_of_another_device_say_so(exported: Path, digits: Examples, tmp_path: Path) -> None:
    """What goes on from another device's measurements on the processor is marked, and what was there is not."""
    kept, engine = tmp_path / "results.json", OnnxRuntime(exported)
    first = evaluate(engine, kept, digits.first(4), Plan(("multiplicative",), (0.3,), 1, 11))
    on_card = first.model_copy(update={"versions": first.versions | {"device": "Some Card"}})
    kept.write_text(on_card.model_dump_json())
    second = evaluate(engine, kept, digits.first(4), Plan(("multiplicative",), (0.7,), 1, 11))
    assert [(cell.sigma, cell.device) for cell in second.cells] == [(0.3, None), (0.7, "CPU")]


def test_measured_cells_are_not_measured_again(exported: Path, digits: Examples, tmp_path: Path) -> None:
    """A second evaluation keeps the cells that it finds, and measures those that are missing or had fewer votes."""
    kept, few, engine = tmp_path / "results.json", digits.first(6), OnnxRuntime(exported)
    first = evaluate(engine, kept, few, Plan(("multiplicative",), (0.7,), 2, 11))
    marked = first.model_copy(update={"cells": (first.cells[0].model_copy(update={"seconds": -1.0}),)})
    kept.write_text(marked.model_dump_json())
    second = evaluate(engine, kept, few, Plan(("multiplicative",), (0.3, 0.7), 2, 11))
    assert [(cell.sigma, cell.seconds < 0) for cell in second.cells] == [(0.3, False), (0.7, True)]
    third = evaluate(engine, kept, few, Plan(("multiplicative",), (0.7,), 3, 11))
    assert [(cell.sigma, cell.passes) for cell in third.cells] == [(0.3, 2), (0.7, 3)]
    assert results.read(kept) == third


def test_results_of_another_file_or_seed_are_not_mixed(exported: Path, digits: Examples, tmp_path: Path) -> None:
    """Measurements of other bytes, or with another seed, are dropped rather than continued."""
    kept, few, engine = tmp_path / "results.json", digits.first(6), OnnxRuntime(exported)
    evaluate(engine, kept, few, Plan(("multiplicative",), (0.0,), 1, 11))
    other = evaluate(engine, kept, few, Plan(("multiplicative",), (0.5,), 1, 12))
    assert [cell.sigma for cell in other.cells] == [0.5]
    kept.write_text(other.model_copy(update={"sha256": "0" * 64}).model_dump_json())
    again = evaluate(engine, kept, few, Plan(("multiplicative",), (0.0,), 1, 12))
    assert [cell.sigma for cell in again.cells] == [0.0]


@pytest.mark.parametrize("content", [None, b"no graph"])
def test_file_that_cannot_be_measured_is_named(content: bytes | None, tmp_path: Path) -> None:
    """A file that is missing, or is no ONNX file, ends in one line."""
    file = tmp_path / "variant.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EvaluationError, match=r"variant\.onnx: "):
        OnnxRuntime(file)
