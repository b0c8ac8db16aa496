"""Batch norms of a finished run estimated anew under another noise."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from noisevote.training.data.data_set import DataSet
from noisevote.training.fit.calibration import CalibrationError, calibrate, calibrated_folder
from noisevote.training.fit.quick_eval import one_vote_accuracy
from noisevote.training.noise.norms import norms_of
from noisevote.training.runs import checkpoint
from noisevote.training.runs.run_folder import RecipeChangedError, RunFolder


@pytest.fixture
def folder(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the finished run."""
    copied = RunFolder(tmp_path / "run")
    shutil.copytree(trained.path, copied.path)
    return copied


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    """The tensors of a finished run by name."""
    return checkpoint.read(folder.weights).part("model")


def test_calibrated_where_it_was_trained_nothing_changes(folder: RunFolder, data: DataSet) -> None:
    """At sigma_train the norms are those that training ended with, bit for bit."""
    out = calibrated_folder(folder, 0.3)
    calibrate(folder, 0.3, data, out)
    before, after = weights(folder), weights(out)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_only_the_statistics_of_the_norms_change(folder: RunFolder, data: DataSet) -> None:
    """Under more noise they differ, every norm's that sees noise; weights, scales and shifts are as they were."""
    out = calibrated_folder(folder, 1.0)
    calibrate(folder, 1.0, data, out)
    before, after = weights(folder), weights(out)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.endswith(("running_mean", "running_var")) for name in changed)
    seeing_noise = len(norms_of(out.read_network())) - 1  # the first stands before all noise
    assert len(changed) == 2 * seeing_noise


def test_calibration_repairs_a_network_under_more_noise(folder: RunFolder, data: DataSet) -> None:
    """At sigma 1 a network trained at 0.3 is right more often with the norms of sigma 1, without further training."""
    out = calibrated_folder(folder, 1.0)
    calibrate(folder, 1.0, data, out)
    recipe = folder.read_recipe()
    before, after = (one_vote_accuracy(run.read_network(), recipe, data.test, 1.0) for run in (folder, out))
    assert after > before


def test_calibrated_run_is_a_run_of_its_own(folder: RunFolder, data: DataSet) -> None:
    """It is named after both sigmas, and its log says what it was made from."""
    out = calibrated_folder(folder, 0.5)
    assert out.path.name == "run-at-0.5"
    calibrate(folder, 0.5, data, out)
    recipe = out.read_recipe()
    assert (recipe.variant, recipe.sigma_train, recipe.norm_sigma) == ("mul-0.3-at-0.5", 0.3, 0.5)
    (line,) = [json.loads(line) for line in out.log.read_text().splitlines()]
    assert (line["event"], line["calibrated"]) == ("calibrated", str(folder.path))
    written = out.weights.stat().st_mtime_ns
    calibrate(folder, 0.5, data, out)
    assert out.weights.stat().st_mtime_ns == written
    with pytest.raises(RecipeChangedError, match="norm_sigma"):
        calibrate(folder, 0.7, data, out)


def test_so_many_batches_are_taken_as_are_asked_for(folder: RunFolder, data: DataSet) -> None:
    """From one batch instead of the recipe's two the statistics differ, and the recipe of the result says one."""
    usual, one = calibrated_folder(folder, 0.5), RunFolder(folder.path.with_name("one"))
    calibrate(folder, 0.5, data, usual)
    calibrate(folder, 0.5, data, one, batches=1)
    assert (usual.read_recipe().norm_batches, one.read_recipe().norm_batches) == (2, 1)
    before, after = weights(usual), weights(one)
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("missing", "norm_batches", "why"), [(True, 2, "not finished"), (False, 0, "norm_batches is 0")]
)
def test_run_that_cannot_be_calibrated_is_refused(
    folder: RunFolder, data: DataSet, missing: bool, norm_batches: int, why: str
) -> None:
    """An unfinished run, and one that estimates no norms, are named; nothing is written."""
    recipe = folder.read_recipe().model_copy(update={"norm_batches": norm_batches})
    folder.recipe.write_text(recipe.model_dump_json())
    if missing:
        folder.weights.unlink()
    out = calibrated_folder(folder, 0.5)
    with pytest.raises(CalibrationError, match=why):
        calibrate(folder, 0.5, data, out)
    assert not out.path.exists()
