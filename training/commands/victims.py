"""Networks that are attacked, by what a command calls them: a run folder, or a published variant."""

from pathlib import Path

import torch

from noisevote.model_store.store import ModelStore
from noisevote.training.attack.victim import Victim
from noisevote.training.commands.options import data_of, published
from noisevote.training.errors import TrainingError
from noisevote.training.fit.warm_start import INPUTS, start_from
from noisevote.training.networks.registry import build, named
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder


class UnfinishedError(TrainingError):
    """A run has no weights yet."""

    def __init__(self, run: RunFolder) -> None:
        super().__init__(f"run folder {run.path}: is not finished; train it first")


def finished(run: RunFolder) -> RunFolder:
    """The run, if it has weights.

    Raises:
        NoRunError: the folder holds no run.
        UnfinishedError: it is not finished.
    """
    run.read_recipe()
    if not run.weights.exists():
        raise UnfinishedError(run)
    return run


def victim_of(chosen: str, store: Path) -> Victim:
    """A network to attack: of a finished run's folder, or else of a published MODEL/VERSION/VARIANT.

    Raises:
        TrainingError: it is neither.
    """
    folder = RunFolder(Path(chosen))
    found = Victim.of_run(finished(folder)) if folder.path.exists() else _of_published(chosen, store)
    return found.folded()


def _of_published(chosen: str, store: Path) -> Victim:
    """A network of torch with a published file's weights; see `start_from` for what becomes of its batch norms."""
    manifest, variant, file = published(ModelStore(store), chosen)
    recipe = Recipe.model_validate(variant.recipe)
    network = build(recipe.network, recipe.noise)
    start_from(network, file, torch.from_numpy(data_of(recipe).train.first(INPUTS).values(slice(None))))
    return Victim(manifest.name, variant.name, named(recipe.network).data_set, variant.sha256, network.eval())
