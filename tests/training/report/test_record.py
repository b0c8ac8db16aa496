import json
import shutil
from pathlib import Path

import pytest
import torch

from noisevote.evaluation import results
from noisevote.training.networks.layers import fold
from noisevote.training.report import record
from noisevote.training.report.record import Record, RecordError, best, trained_for
from noisevote.training.runs import checkpoint
from noisevote.training.runs.checkpoint import Checkpoint
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder


@pytest.fixture(scope="module")
def made(measured: RunFolder) -> Record:
    """Its record."""
    return record.record(measured, measured.path)


def test_record_holds_what_the_run_left(made: Record, measured: RunFolder) -> None:
    """Every epoch of the log, the measurements as they are, and of the recipe what differs from the defaults."""
    lines = [json.loads(line) for line in measured.log.read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "epoch"]
    assert [epoch.loss for epoch in made.epochs] == pytest.approx(losses, abs=1e-5)
    assert made.evaluation == results.read(measured.evaluation_by("onnxruntime"))
    assert (made.variant, made.noise, made.sigma_train, made.layers) == ("mul-0.3", "multiplicative", 0.3, 6)
    assert made.changed["epochs"] == 10
    assert made.changed["precision"] == "float32"
    assert made.changed.keys().isdisjoint({"network", "noise", "sigma_train", "ramp_epochs", "seed"})


def test_weight_norms_are_means_over_outputs(made: Record, measured: RunFolder) -> None:
    """Of each layer, in order: the lengths of the weights of one output after another, and their mean."""
    weights = [w.detach() for w in fold(measured.read_network()).parameters() if w.dim() > 1]
    slow = [sum(torch.sqrt((output**2).sum()).item() for output in layer) / len(layer) for layer in weights]
    assert made.weight_norms == pytest.approx(slow, abs=1e-4)


def test_epoch_that_was_begun_twice_counts_once(measured: RunFolder, made: Record, tmp_path: Path) -> None:
    """A run stopped before its checkpoint repeats the epoch: its last line stands."""
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(measured.path, folder.path)
    lines = folder.log.read_text().splitlines()
    first = next(line for line in lines if '"epoch", ' in line)
    doubled = json.dumps(json.loads(first) | {"loss": 99.0})
    folder.log.write_text("\n".join([doubled, *lines]))
    assert record.record(folder, tmp_path).epochs == made.epochs


def test_record_tells_what_the_weights_started_from(measured: RunFolder, made: Record, tmp_path: Path) -> None:
    """The recipe of the run that it went on from, as its differences to the defaults; from scratch there is none."""
    start, folder = RunFolder(tmp_path / "start"), RunFolder(tmp_path / "run")
    recipe = measured.read_recipe()
    start.open(Recipe(sigma_train=0.6, flip=True))
    shutil.copytree(measured.path, folder.path)
    folder.recipe.write_text(recipe.model_copy(update={"init": str(start.path)}).model_dump_json())
    on = record.record(folder, tmp_path)
    assert on.began == ({"sigma_train": 0.6, "flip": True},)
    assert on.starts == (Recipe(sigma_train=0.6, flip=True),)
    assert (made.began, made.recipe) == ((), recipe)


def test_restored_run_keeps_the_record_of_its_file(measured: RunFolder, made: Record, tmp_path: Path) -> None:
    """It has no learning curve of its own: it takes that on record of the same file, and is refused without one."""
    folder, records = RunFolder(tmp_path / "run"), tmp_path / "records"
    shutil.copytree(measured.path, folder.path)
    weights = checkpoint.read(folder.weights)
    checkpoint.write(folder.weights, Checkpoint(weights.tensors, weights.state | {"restored": "mnist-cnn/3/mul-0.9"}))
    with pytest.raises(RecordError, match=r"restored from mnist-cnn/3/mul-0\.9"):
        record.record(folder, records)
    other = made.evaluation.model_copy(update={"sha256": "0" * 64})
    record.write(made.model_copy(update={"evaluation": other}), records)
    with pytest.raises(RecordError, match="no record is of that file"):
        record.record(folder, records)
    before = made.evaluation.model_copy(update={"cells": made.evaluation.cells[:1]})
    record.write(made.model_copy(update={"evaluation": before}), records)
    assert record.record(folder, records) == made


def test_unfinished_run_is_refused(tmp_path: Path) -> None:
    """There is no result to record, and the message says so."""
    with pytest.raises(RecordError, match="not finished"):
        record.record(RunFolder(tmp_path), tmp_path)


def test_records_are_read_as_they_were_written(made: Record, tmp_path: Path) -> None:
    """By network; multiplicative before additive, then by σ_train."""
    others = [
        made.model_copy(update=new) for new in ({"variant": "mul-0.1", "sigma_train": 0.1}, {"noise": "additive"})
    ]
    others[1] = others[1].model_copy(update={"variant": "add-0.0", "sigma_train": 0.0})
    for run in (others[1], made, others[0]):
        record.write(run, tmp_path)
    assert record.read_all(tmp_path) == {"mnist-cnn": [others[0], made, others[1]]}


def test_file_that_is_no_record_is_named(tmp_path: Path) -> None:
    """It is neither skipped nor guessed at."""
    (tmp_path / "mnist-cnn").mkdir()
    (tmp_path / "mnist-cnn" / "mul-0.3.json").write_text("{}")
    with pytest.raises(RecordError, match=r"mul-0\.3\.json"):
        record.read_all(tmp_path)


def test_noiseless_cell_stands_for_every_kind_and_number_of_votes(made: Record) -> None:
    """Without noise all votes are the same; what was not measured is not there."""
    noiseless = made.measured("multiplicative", 0.0, 1)
    assert noiseless is not None
    assert made.measured("additive", 0.0, 20) == noiseless
    assert made.measured("multiplicative", 0.5, 5) is not None
    assert made.measured("multiplicative", 0.5, 20) is None
    assert made.measured("additive", 0.5, 1) is None
    assert (made.most_votes("multiplicative"), made.most_votes("multiplicative", 0.0), made.most_votes("additive")) == (
        5,
        1,
        0,
    )


def test_best_run_is_the_most_accurate_then_the_least_noisy(made: Record) -> None:
    """Where two runs are equally accurate, the one of smaller σ_train is named, and rather one not calibrated."""
    same = made.model_copy(update={"sigma_train": 0.9})
    cell = made.evaluation.cell("multiplicative", 0.5)
    assert cell is not None
    worse = tuple(found.model_copy(update={"accuracy": found.accuracy - 0.01}) for found in cell.measured)
    evaluation = made.evaluation.model_copy(update={"cells": (cell.model_copy(update={"measured": worse}),)})
    lesser = made.model_copy(update={"sigma_train": 0.1, "evaluation": evaluation})
    found = best([same, lesser, made], "multiplicative", 0.5, 5)
    assert found is not None
    assert found[0] is made
    assert best([made], "multiplicative", 0.7, 1) is None
    calibrated = made.model_copy(update={"changed": {**made.changed, "norm_sigma": 0.5}})
    found = best([calibrated, made], "multiplicative", 0.5, 5)
    assert found is not None
    assert found[0] is made


def test_noiseless_run_of_the_other_kind_stands_in(made: Record) -> None:
    """Without noise the kinds differ only in what the batch norms may learn, so a kind's own run comes first."""
    noiseless = made.model_copy(update={"sigma_train": 0.0})
    additive = made.model_copy(update={"noise": "additive"})
    own = additive.model_copy(update={"sigma_train": 0.0})
    assert trained_for([noiseless, made, additive], "additive") == [noiseless, additive]
    assert trained_for([noiseless, own, additive], "additive") == [own, additive]
