"""What two engines measured of one run, put together."""

import shutil
from pathlib import Path

import pytest

from noisevote.evaluation import results
from noisevote.evaluation.results import Cell, Evaluation, EvaluationError, Measured
from noisevote.training.measure.measurements import measurements
from noisevote.training.runs.run_folder import RunFolder

CARD = {"device": "Some Card"}


def cell(sigma: float, passes: int, device: str | None = None) -> Cell:
    """A cell of so many votes an image, half of them right."""
    found = Measured(votes=1, accuracy=0.5, spread=None, groups=passes)
    return Cell(noise="multiplicative", sigma=sigma, passes=passes, seconds=1.0, measured=(found,), device=device)


@pytest.fixture
def folder(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """A finished run with some bytes for its exported file."""
    copied = RunFolder(tmp_path / "run")
    shutil.copytree(trained.path, copied.path)
    copied.exported.write_bytes(b"exported")
    return copied


def by_runtime(folder: RunFolder, *cells: Cell, seed: int = 0) -> Evaluation:
    """Write what ONNX Runtime measured."""
    sha256 = results.sha256_of(folder.exported)
    made = Evaluation(sha256=sha256, seed=seed, images=9, commit=None, versions={}, isa="AVX2", cells=cells)
    folder.evaluation_by("onnxruntime").write_text(made.model_dump_json())
    return made


def by_twin(folder: RunFolder, *cells: Cell) -> Evaluation:
    """Write what the twin measured on a card."""
    sha256 = results.sha256_of(folder.weights)
    made = Evaluation(
        sha256=sha256, engine="torch", seed=0, images=9, commit=None, versions=CARD, isa=None, cells=cells
    )
    folder.evaluation_by("torch").write_text(made.model_dump_json())
    return made


def test_what_one_engine_measured_stands_as_it_is(folder: RunFolder) -> None:
    """With one file of results there is nothing to put together."""
    assert by_twin(folder, cell(0.2, 5)) == measurements(folder)
    folder.evaluation_by("torch").unlink()
    assert by_runtime(folder, cell(0.2, 5)) == measurements(folder)


def test_gaps_are_filled_and_say_by_what(folder: RunFolder) -> None:
    """Of each noise the cell of more votes stands, ONNX Runtime's where both have as many; the twin's are marked."""
    by_runtime(folder, cell(0.0, 1), cell(0.4, 20), cell(0.6, 5))
    by_twin(folder, cell(0.0, 1), cell(0.2, 5, device="CPU"), cell(0.4, 5), cell(0.6, 20))
    whole = measurements(folder)
    assert whole.engine == "onnxruntime"
    assert [(found.sigma, found.passes, found.engine, found.device) for found in whole.cells] == [
        (0.0, 1, None, None),
        (0.2, 5, "torch", "CPU"),
        (0.4, 20, None, None),
        (0.6, 20, "torch", "Some Card"),
    ]


def test_measurements_of_another_file_are_refused(folder: RunFolder) -> None:
    """A run exported anew must be measured anew, although what the twin measured of its weights still holds."""
    by_runtime(folder, cell(0.2, 5))
    by_twin(folder, cell(0.4, 5))
    folder.exported.write_bytes(b"exported anew")
    with pytest.raises(EvaluationError, match=r"evaluation\.json: is of a file of sha256"):
        measurements(folder)


def test_measurements_with_other_draws_are_refused(folder: RunFolder) -> None:
    """One table never holds accuracies of two seeds."""
    by_runtime(folder, cell(0.2, 5), seed=7)
    by_twin(folder, cell(0.4, 5))
    with pytest.raises(EvaluationError, match="seed 0; that of onnxruntime is of 9, seed 7"):
        measurements(folder)


def test_run_that_was_not_measured_is_named(folder: RunFolder) -> None:
    """The message says what to do."""
    with pytest.raises(EvaluationError, match="evaluate the run first"):
        measurements(folder)
