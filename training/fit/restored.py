"""A published variant as a finished run folder again, for whoever has its file and not the run that it came from."""

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from noisevote.model_store.files import replace_file
from noisevote.model_store.manifest import Manifest, Variant
from noisevote.training.data.data_set import DataSet
from noisevote.training.errors import TrainingError
from noisevote.training.fit.warm_start import INPUTS, start_from
from noisevote.training.networks.registry import build
from noisevote.training.noise.draws import constant_draws
from noisevote.training.runs import checkpoint
from noisevote.training.runs.recipe import Purpose, Recipe, derived_seed
from noisevote.training.runs.run_folder import RunFolder


class RestoreError(TrainingError):
    """A published variant cannot be made a run folder."""

    def __init__(self, manifest: Manifest, variant: Variant, why: str) -> None:
        super().__init__(f"{manifest.name} {manifest.version}: {variant.name!r} {why}")


def published_recipe(manifest: Manifest, variant: Variant) -> Recipe:
    """The recipe that a published variant was trained by.

    Raises:
        RestoreError: it was not trained here, or is quantised.
    """
    if variant.precision != "float32":
        raise RestoreError(manifest, variant, f"is of {variant.precision}; take its float32 variant")
    try:
        recipe = Recipe.model_validate(variant.recipe)
    except ValidationError as error:
        raise RestoreError(manifest, variant, f"was not trained by a recipe of this repository: {error}") from error
    if recipe.network != variant.network:  # no recipe at all is a valid one, of the usual network
        raise RestoreError(manifest, variant, "was trained elsewhere, so there is no run to go back to")
    return recipe


def restore(manifest: Manifest, variant: Variant, file: Path, data: DataSet, folder: RunFolder) -> None:
    """Write to `folder` the finished run of a published variant, and its file as the exported one.

    What a file does not hold is found anew: batch norms that are folded into the products before them are set as
    `start_from` says, under the noise that they were estimated under.

    Raises:
        RestoreError: it was not trained here, is quantised, or the folder was restored from another file.
        RecipeChangedError: the folder holds another run.
        WarmStartError: the file cannot be read.
    """
    recipe = published_recipe(manifest, variant)
    folder.open(recipe)
    if folder.weights.exists():
        if checkpoint.read(folder.weights).state.get("restored_sha256") != variant.sha256:
            raise RestoreError(manifest, variant, f"is not what {folder.path} was made of")
        return
    network = build(recipe.network, recipe.noise)
    some = torch.from_numpy(data.train.first(INPUTS).values(slice(None)))
    sigma = recipe.sigma_train if recipe.norm_sigma is None else recipe.norm_sigma
    seed = derived_seed(recipe.seed, Purpose.NORM_NOISE)
    start_from(network, file, some, constant_draws(recipe.noise, sigma, seed, len(some), 0))
    source = {"restored": f"{manifest.name}/{manifest.version}/{variant.name}", "restored_sha256": variant.sha256}
    made: dict[str, Any] = {"commit": None, "versions": {}}
    if told := variant.provenance:
        made = {"commit": told.commit, "versions": told.versions, "data_hashes": told.files}
    replace_file(folder.exported, file.read_bytes())
    folder.write_network(network, {"recipe": recipe.model_dump(), "epochs": recipe.epochs, **made, **source})
    folder.append("restored", **made, **source)
