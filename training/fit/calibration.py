"""Calibration: the batch norms of a finished run estimated anew under another sigma, its weights left as they are.

Noise moves what a batch norm sees, multiplicative noise its variance by the factor 1 + σ²; statistics of
noiseless signals then scale every signal wrongly, layer after layer. Hardware can be calibrated so, without
training: the norms need forward passes only, on the noisy hardware itself.
"""

from pathlib import Path

import torch

from noisevote.evaluation.results import sha256_of
from noisevote.training.data.data_set import DataSet
from noisevote.training.errors import TrainingError
from noisevote.training.fit.train import Training
from noisevote.training.noise.draws import CPU
from noisevote.training.noise.norms import norms_of
from noisevote.training.runs.provenance import provenance
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder


class CalibrationError(TrainingError):
    """The run cannot be calibrated."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(f"run folder {folder}: {why}")


def calibrated_folder(folder: RunFolder, sigma: float) -> RunFolder:
    """The folder that the command gives to `calibrate` for its result: <run>-at-<sigma>."""
    return RunFolder(folder.path.with_name(f"{folder.path.name}-at-{sigma}"))


def calibrate(
    folder: RunFolder, sigma: float, data: DataSet, out: RunFolder, device: torch.device = CPU,
    batches: int | None = None,
) -> None:  # fmt: skip  # what, where, how
    """Write to `out` the run of `folder` with its batch norms estimated under noise of `sigma`.

    They are estimated from so many batches; none: from as many as the run's recipe says.

    Raises:
        CalibrationError: the run is not finished, or has no batch norms, or asks for no batches to estimate them.
        RecipeChangedError: `out` holds another run.
    """
    before = folder.read_recipe()
    count = before.norm_batches if batches is None else batches
    recipe = Recipe.model_validate({**before.model_dump(), "norm_sigma": sigma, "norm_batches": count})
    if not folder.weights.exists():
        raise CalibrationError(folder.path, "is not finished; train it first")
    network = folder.read_network().to_device(device)
    if not norms_of(network) or recipe.norm_batches == 0:
        raise CalibrationError(folder.path, "has no batch norms to estimate, or norm_batches is 0")
    out.open(recipe)
    if out.weights.exists():
        return
    # the weights that training would start from do not matter: those of the finished run take their place
    examples = data.to_train(recipe.images, recipe.holdout)
    training = Training(recipe.model_copy(update={"init": None}), examples, device)
    training.estimate_norms(network, recipe.norm_batches)
    made_by = provenance(data, device)
    source = {"calibrated": str(folder.path), "calibrated_sha256": sha256_of(folder.weights)}
    out.write_network(network, {"recipe": recipe.model_dump(), "epochs": recipe.epochs, **made_by, **source})
    out.append("calibrated", **made_by, **source)
