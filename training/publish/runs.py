"""Finished, exported and measured runs become one version of a model in the model store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.gate import EXAMPLES
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.votes import cast_votes
from noisevote.model_store.manifest import InputSpec, Provenance, Variant
from noisevote.model_store.store import ModelStore
from noisevote.training.data.data_set import DataSet
from noisevote.training.errors import TrainingError
from noisevote.training.measure.measurements import measurements
from noisevote.training.measure.torch_twin import TorchTwin
from noisevote.training.networks.layers import count
from noisevote.training.networks.network import Network
from noisevote.training.networks.registry import named
from noisevote.training.publish import manifests
from noisevote.training.publish.gate import pass_gate
from noisevote.training.publish.manifests import ModelDescription, Training
from noisevote.training.runs import checkpoint
from noisevote.training.runs.provenance import data_hashes
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder

CHECKED_INPUTS: Final = 64
CHECKED_VOTES: Final = 4
MOST_DIFFERENT: Final = 0.01  # of the votes, by rounding; none did where it was tried


class UnpublishableError(TrainingError):
    """A run is not ready to be published."""

    def __init__(self, folder: RunFolder, why: str) -> None:
        super().__init__(f"run folder {folder.path}: {why}")


def publish(
    folders: Sequence[RunFolder],
    data: DataSet,
    store: ModelStore,
    version: str,
    *,
    replace: bool = False,
    kept_version: str | None = None,
) -> Path:
    """Write the runs of one model as variants of a model version; returns its folder.

    The variants of `kept_version` come along as they are published, but for those whose names the runs have.

    Raises:
        UnpublishableError: a run is unfinished or not exported, or the runs are of several models.
        RefusedFileError: the gate refuses a file.
        EvaluationError: a run is not measured, or its measurements are of another file.
        StoreError: the version exists, the one to keep does not, or the store refuses something.
    """
    recipes = [_recipe(folder) for folder in folders]
    names = sorted({recipe.model for recipe in recipes})
    if len(names) != 1:
        raise UnpublishableError(folders[0], f"is to be published with runs of other models: {', '.join(names)}")
    variants = [describe(folder, data) for folder in folders]
    contents = {variant.name: folder.exported.read_bytes() for variant, folder in zip(variants, folders, strict=True)}
    if kept_version is not None:
        before = store.manifest(names[0], kept_version)
        kept = [variant for variant in before.variants if variant.name not in contents]
        contents |= {variant.name: store.read(before, variant) for variant in kept}
        variants = [*kept, *variants]
    described = _model_description(recipes[0], version)
    return store.publish(manifests.manifest(described, data.classes, variants), contents, replace=replace)


def describe(folder: RunFolder, data: DataSet) -> Variant:
    """The manifest's entry of one run; see `publish` for errors."""
    recipe = folder.read_recipe()
    _check_exported(folder)
    measured = measurements(folder)
    if measured.measured_by != OnnxRuntime.name:
        _check_votes(folder, data.test)
    made: dict[str, Any] = checkpoint.read(folder.weights).state
    provenance = Provenance(
        data_set=data.name,
        files=data_hashes(made),
        train_images=len(data.to_train(recipe.images, recipe.holdout)),
        commit=made["commit"],
        versions=made["versions"],
    )
    network = named(recipe.network)
    found = pass_gate(
        folder.exported,
        _input_spec(network),
        len(data.classes),
        TorchTwin(folder, torch.device("cpu")).logits,
        data.test.values(slice(0, EXAMPLES)),
        None if network.noise_on_input else (),
    )
    variant = manifests.variant(
        recipe.variant,
        folder.exported,
        network=recipe.network,
        training=Training(recipe.noise, recipe.sigma_train, recipe.model_dump(), provenance, certified_sigma(recipe)),
        costs=count(folder.read_network()),
        measured=measured,
    )
    return variant.model_copy(update={"checked": found.for_manifest()})


def certified_sigma(recipe: Recipe) -> float | None:
    """The sigma under which the network certifies, if it does."""
    able = named(recipe.network).noise_on_input and recipe.noise == "additive" and recipe.sigma_train > 0
    return recipe.sigma_train if able else None


def _model_description(recipe: Recipe, version: str) -> ModelDescription:
    """Turn what a network says about itself into the manifest's description."""
    network: type[Network] = named(recipe.network)
    robust = recipe.adversarial_share > 0
    return ModelDescription(
        name=recipe.model,
        version=version,
        title=network.title + (", adversarially trained" if robust else ""),
        description=network.description + (" Trained on adversarial examples." if robust else ""),
        input=_input_spec(network),
    )


def _input_spec(network: type[Network]) -> InputSpec:
    """What a network says of its inputs."""
    return InputSpec(
        shape=network.input_shape,
        value_range=network.value_range,
        preprocessing=network.preprocessing,
        padding=network.padding,
    )


def _check_votes(folder: RunFolder, examples: Examples) -> None:
    """Check that the file casts the votes of the weights that were measured in its place, but for rounding.

    Raises:
        UnpublishableError: too many votes differ.
    """
    recipe, few = folder.read_recipe(), examples.first(CHECKED_INPUTS)
    noise = (recipe.noise, recipe.sigma_train or 0.2)
    plan = Plan((recipe.noise,), (noise[1],), CHECKED_VOTES, seed=0)
    engines = (OnnxRuntime(folder.exported), TorchTwin(folder, torch.device("cpu")))
    ours, measured = (cast_votes(engine, few, noise, plan) for engine in engines)
    different = float(np.mean(ours != measured))
    if different > MOST_DIFFERENT:
        raise UnpublishableError(
            folder,
            f"{different:.1%} of the votes of {folder.exported.name} are not those of the weights that were measured",
        )


def _recipe(folder: RunFolder) -> Recipe:
    if not folder.weights.exists():
        raise UnpublishableError(folder, "is not finished; train it first")
    return folder.read_recipe()


def _check_exported(folder: RunFolder) -> None:
    if not folder.exported.exists():
        raise UnpublishableError(folder, f"has no {folder.exported.name}; export it first")
