"""Finished, exported and measured runs become one version of a model in the model store."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch

from noisevote.evaluation import accuracy as evaluate
from noisevote.evaluation.accuracy import Cell, Evaluation, Plan
from noisevote.evaluation.examples import DataSet, Examples
from noisevote.model_store.manifest import AccuracyPoint, InputSpec, Manifest, Operator, Provenance, Variant
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import DOMAIN, OP_VERSION
from noisevote.training.errors import TrainingError
from noisevote.training.measure.engines import OnnxRuntime, TorchTwin
from noisevote.training.measure.measurements import measurements
from noisevote.training.networks.layers import count
from noisevote.training.networks.registry import named
from noisevote.training.runs import checkpoint
from noisevote.training.runs.run_folder import RunFolder

CHECKED_INPUTS: Final = 64
CHECKED_VOTES: Final = 4
MOST_DIFFERENT: Final = 0.01  # of the votes, by rounding; none did where it was tried


class UnpublishableError(TrainingError):
    """A run is not ready to be published."""

    def __init__(self, folder: RunFolder, why: str) -> None:
        super().__init__(f"run folder {folder.path}: {why}")


def publish(
    folders: Sequence[RunFolder], data: DataSet, store: ModelStore, version: str, *, replace: bool = False
) -> Path:
    """Write the runs of one network as variants of a model version; returns its folder.

    Raises:
        UnpublishableError: a run is unfinished or not exported, or the runs are of several networks.
        EvaluationError: a run is not measured, or its measurements are of another file.
        StoreError: the version exists, or the store refuses it.
    """
    recipes = [_recipe(folder) for folder in folders]
    names = sorted({recipe.network for recipe in recipes})
    if len(names) != 1:
        raise UnpublishableError(folders[0], f"is to be published with runs of other networks: {', '.join(names)}")
    contents = {recipe.variant: _content(folder) for recipe, folder in zip(recipes, folders, strict=True)}
    network = named(names[0])
    manifest = Manifest(
        name=names[0],
        version=version,
        title=network.title,
        description=network.description,
        published=datetime.now(UTC).replace(microsecond=0),
        input=InputSpec(
            shape=network.input_shape,
            value_range=network.value_range,
            preprocessing=network.preprocessing,
            padding=network.padding,
        ),
        classes=data.classes,
        operator=Operator(domain=DOMAIN, version=OP_VERSION),
        variants=tuple(describe(folder, data) for folder in folders),
    )
    return store.publish(manifest, contents, replace=replace)


def describe(folder: RunFolder, data: DataSet) -> Variant:
    """The manifest's entry of one run; see `publish` for errors."""
    recipe = folder.read_recipe()
    content, measured = _content(folder), measurements(folder)
    costs = count(folder.read_network())
    engine = _engine(measured)
    if engine != OnnxRuntime.name:
        _check_votes(folder, data.test)
    made: dict[str, Any] = checkpoint.read(folder.weights).state
    return Variant(
        name=recipe.variant,
        file=folder.exported.name,
        sha256=evaluate.sha256_of(folder.exported),
        bytes=len(content),
        noise=recipe.noise,
        sigma_train=recipe.sigma_train,
        network=recipe.network,
        recipe=recipe.model_dump(),
        provenance=Provenance(
            data_set=data.name,
            files=_hashes(made),
            train_images=len(data.to_train(recipe.images, recipe.holdout)),
            commit=made["commit"],
            versions=made["versions"],
        ),
        parameters=costs.parameters,
        multiply_accumulates=costs.macs,
        samples=costs.samples,
        layers=costs.noisy_layers,
        accuracy=tuple(table(measured)),
        engine=engine,
    )


def _engine(measured: Evaluation) -> Literal["onnxruntime", "torch", "mixed"]:
    engines = {cell.engine or measured.engine for cell in measured.cells}
    return engines.pop() if len(engines) == 1 else "mixed"


def _check_votes(folder: RunFolder, examples: Examples) -> None:
    """That the file casts the votes of the weights that were measured in its place, but for rounding."""
    recipe, few = folder.read_recipe(), examples.first(CHECKED_INPUTS)
    noise = (recipe.noise, recipe.sigma_train or 0.2)
    plan = Plan((recipe.noise,), (noise[1],), CHECKED_VOTES, seed=0)
    engines = (OnnxRuntime(folder.exported, threads=1), TorchTwin(folder, torch.device("cpu")))
    ours, measured = (evaluate.cast_votes(engine, few, noise, plan)[0] for engine in engines)
    different = float(np.mean(ours != measured))
    if different > MOST_DIFFERENT:
        raise UnpublishableError(
            folder,
            f"{different:.1%} of the votes of {folder.exported.name} are not those of the weights that were measured",
        )


def table(evaluation: Evaluation) -> list[AccuracyPoint]:
    """The measured cells as the manifest's points.

    Without noise every vote is the same, so what was measured at sigma 0 with one vote holds, exactly,
    for each number of votes of the table.
    """
    counts = sorted({measured.votes for cell in evaluation.cells for measured in cell.measured})
    points = []
    for cell in evaluation.cells:
        for measured in _repeated(cell, counts) if cell.sigma == 0 else [m.model_dump() for m in cell.measured]:
            del measured["groups"], measured["soft_accuracy"]
            points.append(
                AccuracyPoint(
                    noise=cell.noise, sigma=cell.sigma, images=evaluation.images, seed=evaluation.seed, **measured
                )
            )
    return points


def _hashes(made: dict[str, Any]) -> dict[str, str]:
    """Data file to `<algorithm>:<hash>`; runs of before there were several algorithms hold bare MD5 sums."""
    bare: dict[str, str] = made.get("data_md5", {})
    hashes: dict[str, str] = made.get("data_hashes", {})
    return hashes | {name: f"md5:{md5}" for name, md5 in bare.items()}


def _repeated(cell: Cell, counts: Sequence[int]) -> list[dict[str, Any]]:
    (once,) = cell.measured
    return [once.model_dump() | {"votes": votes} for votes in counts]


def _recipe(folder: RunFolder) -> Any:
    if not folder.weights.exists():
        raise UnpublishableError(folder, "is not finished; train it first")
    return folder.read_recipe()


def _content(folder: RunFolder) -> bytes:
    if not folder.exported.exists():
        raise UnpublishableError(folder, f"has no {folder.exported.name}; export it first")
    return folder.exported.read_bytes()
