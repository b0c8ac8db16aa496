from pathlib import Path

import pytest

from noisevote.evaluation import results
from noisevote.evaluation.accuracy_points import accuracy_points
from noisevote.evaluation.results import Cell, Evaluation, EvaluationError, Measured


def found(votes: int, accuracy: float) -> Measured:
    """One measurement."""
    return Measured(votes=votes, accuracy=accuracy, spread=None, groups=1)


def cell(sigma: float, *measured: Measured) -> Cell:
    """A cell of these measurements."""
    return Cell(noise="multiplicative", sigma=sigma, passes=2, seconds=0.0, measured=measured)


def evaluation(*cells: Cell) -> Evaluation:
    """An evaluation of these cells."""
    return Evaluation(sha256="", seed=1, images=5, commit=None, versions={}, isa=None, cells=cells)


def test_noiseless_accuracy_holds_for_every_number_of_votes() -> None:
    """The one vote at sigma 0 stands for each vote count of the table; noisy cells are taken as measured."""
    measured = evaluation(cell(0.0, found(1, 0.8)), cell(1.0, found(1, 0.2), found(2, 0.4)))
    points = [(point.sigma, point.votes, point.accuracy) for point in accuracy_points(measured)]
    assert points == [(0.0, 1, 0.8), (0.0, 2, 0.8), (1.0, 1, 0.2), (1.0, 2, 0.4)]
    assert {(point.images, point.seed, point.reads) for point in accuracy_points(measured)} == {(5, 1, 1)}


def test_several_engines_are_mixed() -> None:
    """One engine is named, two are `mixed`; a cell that names none is of the evaluation's."""
    own, twins = cell(0.0, found(1, 0.8)), cell(1.0, found(1, 0.8)).model_copy(update={"engine": "torch"})
    assert evaluation(own).measured_by == "onnxruntime"
    assert evaluation(twins).measured_by == "torch"
    assert evaluation(own, twins).measured_by == "mixed"


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """A second write takes the first one's place and leaves no other file."""
    for accuracy in (0.5, 1 / 3):
        results.write(tmp_path / "r.json", evaluation(cell(0.1, found(1, accuracy))))
    assert results.read(tmp_path / "r.json") == evaluation(cell(0.1, found(1, 1 / 3)))
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_damaged_results_are_refused_by_name(tmp_path: Path) -> None:
    """A file that is not a file of results is named, never overwritten silently."""
    path = tmp_path / "results.json"
    path.write_text("{}")
    with pytest.raises(EvaluationError, match=r"results\.json"):
        results.read(path)
