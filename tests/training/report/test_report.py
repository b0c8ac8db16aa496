from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import JsonValue

from noisevote.evaluation.results import Cell, Evaluation, Measured
from noisevote.training.report import twin_page
from noisevote.training.report.record import Epoch, Record, write
from noisevote.training.report.report import report

RESULTS = Path(__file__).parents[3] / "docs" / "results"
AS_THEY_ARE: dict[str, JsonValue] = {"shift_pixels": 0.0, "rotate_degrees": 0.0, "scale": 0.0}
CHANGED = "lr 0.1, shift_pixels 0.0, rotate_degrees 0.0, scale 0.0"  # as the page says what is below
NETWORKS = sorted(folder.name for folder in (RESULTS / "runs").iterdir())


@pytest.fixture(scope="module")
def remade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report, made again from the records of the repository."""
    out = tmp_path_factory.mktemp("report")
    report(RESULTS / "runs", out)
    return out


@pytest.mark.parametrize("network", NETWORKS)
def test_report_is_that_of_its_records(remade: Path, network: str) -> None:
    """The tables in the repository are what the records give, byte for byte, and the figures pixel for pixel."""
    page = f"{network}.md"
    assert (remade / page).read_bytes() == (RESULTS / page).read_bytes()
    pictures = [path.name for path in remade.glob(f"{network}-*.png")]
    assert pictures
    for picture in pictures:
        with Image.open(remade / picture) as made, Image.open(RESULTS / picture) as kept:
            assert np.array_equal(np.asarray(made), np.asarray(kept)), picture


def test_the_page_of_twins_is_that_of_their_records(tmp_path: Path) -> None:
    """It is what the records of published twins give, byte for byte."""
    (page,) = twin_page.report(RESULTS / "twins", tmp_path)
    assert page.read_bytes() == (RESULTS / "twins.md").read_bytes()


def run(sigma_train: float, one_run: dict[float, float]) -> Record:
    """A run with these accuracies, the deviation of one vote 0.01, and 20 votes half as wrong."""
    cells = []
    for sigma, accuracy in one_run.items():
        one = Measured(votes=1, accuracy=accuracy, spread=0.01, groups=20, soft_accuracy=accuracy)
        many = Measured(votes=20, accuracy=(1 + accuracy) / 2, spread=None, groups=1, soft_accuracy=accuracy)
        cells.append(Cell(noise="multiplicative", sigma=sigma, passes=20, seconds=1.0, measured=(one, many)))
    epoch = Epoch(epoch=1, loss=0.5, train_accuracy=0.5, glance_noiseless=0.5, glance_one_vote=0.5, seconds=90.0)
    evaluation = Evaluation(sha256="", seed=0, images=10, commit=None, versions={}, isa=None, cells=tuple(cells))
    return Record(
        network="mnist-cnn", variant=f"mul-{sigma_train}", noise="multiplicative", sigma_train=sigma_train,
        changed={"epochs": 1, "lr": 0.1, **AS_THEY_ARE}, commit="0123456789", versions={}, parameters=1000,
        multiply_accumulates=10**6, samples=10, layers=6, weight_norms=(1.0, 2.0), epochs=(epoch,),
        evaluation=evaluation,
    )  # fmt: skip


def test_tables_say_what_was_measured_and_what_was_not(tmp_path: Path) -> None:
    """The better of two runs at each sigma, its difference to the paper in points, and a dash where nothing is."""
    write(run(0.0, {0.2: 0.99, 1.0: 0.2}), tmp_path / "runs")
    write(run(1.0, {0.2: 0.95, 1.0: 0.8}), tmp_path / "runs")
    report(tmp_path / "runs", tmp_path / "out")
    lines = (tmp_path / "out" / "mnist-cnn.md").read_text().splitlines()
    assert "| noiseless training, one run | – | 99.00 | – | – | – | 20.00 |" in lines
    assert "| best σ_train, one run | – | 99.00 | – | – | – | 80.00 |" in lines
    assert "| σ_train of these | – | 0.0 | – | – | – | 1.0 |" in lines
    assert "| ours − paper | – | -0.50 | – | – | – | +2.30 |" in lines
    assert "| best σ_train, 20 votes | – | 99.50 | – | – | – | 90.00 |" in lines
    assert "| mul-1.0 | – | 95.00 ± 1.00 | – | – | – | 80.00 ± 1.00 |" in lines
    assert f"| mul-1.0 | 1 | 2 | CPU | ONNX Runtime | {CHANGED} | 1.500 | 0123456 |" in lines
    assert not any("Additive" in line for line in lines)


def test_tables_say_what_trained_and_what_voted(tmp_path: Path) -> None:
    """A run that a graphics card trained and measured names it in its row, and above the tables."""
    here, card = run(1.0, {1.0: 0.8}), {"device": "Some Card"}
    measured = here.evaluation.model_copy(update={"engine": "torch", "versions": card})
    write(here.model_copy(update={"versions": card, "evaluation": measured}), tmp_path / "runs")
    report(tmp_path / "runs", tmp_path / "out")
    page = (tmp_path / "out" / "mnist-cnn.md").read_text()
    assert f"| mul-1.0 | 1 | 2 | Some Card | the torch twin on Some Card | {CHANGED} | 1.500 | 0123456 |" in page
    assert "by the torch twin on Some Card, seed 0" in page


def test_run_measured_by_two_engines_says_at_which_sigma(tmp_path: Path) -> None:
    """Its row names each with the sigmas that it measured."""
    mixed = run(1.0, {0.2: 0.9, 0.6: 0.85, 1.0: 0.8})
    first, second, third = mixed.evaluation.cells
    by_card = second.model_copy(update={"engine": "torch", "device": "Some Card"})
    evaluation = mixed.evaluation.model_copy(update={"cells": (first, by_card, third)})
    write(mixed.model_copy(update={"evaluation": evaluation}), tmp_path / "runs")
    report(tmp_path / "runs", tmp_path / "out")
    page = (tmp_path / "out" / "mnist-cnn.md").read_text()
    assert "| ONNX Runtime at 0.2, 1; the torch twin on Some Card at 0.6 |" in page


def test_calibrated_runs_stand_in_a_table_of_their_own(tmp_path: Path) -> None:
    """Each at its sigma beside the run that it was made from, in the best recipe's table, and not in the paper's."""
    write(run(0.0, {0.2: 0.99, 0.6: 0.6}), tmp_path / "runs")
    for sigma, accuracy in ((0.2, 0.995), (0.6, 0.9)):
        calibrated = run(0.0, {sigma: accuracy})
        changed = {**calibrated.changed, "norm_sigma": sigma}
        variant = f"mul-0.0-at-{sigma}"
        write(calibrated.model_copy(update={"changed": changed, "variant": variant}), tmp_path / "runs")
    report(tmp_path / "runs", tmp_path / "out")
    page = (tmp_path / "out" / "mnist-cnn.md").read_text()
    assert "| variant | sigma | one run | calibrated | 20 votes | calibrated | best σ_train, 20 votes |" in page
    assert "| `mul-0.0-at-0.2` | 0.2 | 99.00 ± 1.00 | 99.50 ± 1.00 | 99.50 | 99.75 | 99.50 |" in page
    assert "| `mul-0.0-at-0.6` | 0.6 | 60.00 ± 1.00 | 90.00 ± 1.00 | 80.00 | 95.00 | 80.00 |" in page
    papers, best = page.split("### Best recipe")
    assert "| noiseless training, one run | – | 99.00 | – | 60.00 | – | – |" in papers
    assert "-at-" not in papers
    assert "| best of all, one run | – | 99.50 | – | 90.00 | – | – |" in best
