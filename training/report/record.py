"""Records: what the report needs of a finished run, its recipe, learning curve, sizes of weights and measurements.

A record is small and kept in the repository, so that every table and figure can be made again from it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from noisevote.evaluation.results import Evaluation, Measured
from noisevote.model_store.files import replace_file
from noisevote.noise_op.contract import NoiseKind
from noisevote.training.errors import TrainingError
from noisevote.training.measure.measurements import measurements
from noisevote.training.networks.layers import NoisyLayer, count, fold
from noisevote.training.networks.network import Network
from noisevote.training.networks.registry import named
from noisevote.training.runs import checkpoint
from noisevote.training.runs.ancestry import starts
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder

CURVE = ("loss", "train_accuracy", "glance_noiseless", "glance_one_vote", "seconds")


class RecordError(TrainingError):
    """A run cannot be recorded, or a file is no record."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"record {path}: {why}")


class Epoch(BaseModel):
    """One line of the learning curve; `glance_…` are the quick evaluations after the epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    loss: float
    train_accuracy: float
    glance_noiseless: float
    glance_one_vote: float
    seconds: float


class Record(BaseModel):
    """One run. `changed` holds the recipe's fields that are not the network's defaults.

    `began`: the same of the runs whose weights it started from, the last one first, as far as they could be read.
    `weight_norms`: of each noisy layer of the folded network the mean Euclidean norm of the weights of an output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    variant: str
    noise: NoiseKind
    sigma_train: float
    changed: dict[str, JsonValue]
    commit: str | None
    versions: dict[str, str]
    parameters: int
    multiply_accumulates: int
    samples: int
    layers: int
    weight_norms: tuple[float, ...]
    epochs: tuple[Epoch, ...]
    evaluation: Evaluation
    began: tuple[dict[str, JsonValue], ...] = ()

    @property
    def recipe(self) -> Recipe:
        """The whole recipe."""
        told = {"noise": self.noise, "sigma_train": self.sigma_train}
        return Recipe.model_validate({**_usual(self.network), **self.changed, **told})

    @property
    def starts(self) -> tuple[Recipe, ...]:
        """Recipes of the runs whose weights it started from, as far as they could be read when it was recorded."""
        return tuple(Recipe.model_validate({**_usual(self.network), **changed}) for changed in self.began)

    @property
    def calibrated_at(self) -> float | None:
        """Sigma that the batch norms were estimated under, where that is not sigma_train."""
        at = self.changed.get("norm_sigma")
        return at if isinstance(at, float) else None

    def measured(self, noise: NoiseKind, sigma: float, votes: int) -> Measured | None:
        """Return the measurement at one noise and number of votes; without noise one vote stands for any number."""
        cell = self.evaluation.cell(noise, sigma)
        if sigma == 0:
            cell = next((cell for cell in self.evaluation.cells if cell.sigma == 0), None)
            votes = 1
        return next((found for found in cell.measured if found.votes == votes), None) if cell else None

    def most_votes(self, noise: NoiseKind, sigma: float | None = None) -> int:
        """Most votes an input that were measured under a noise kind, at one sigma or at any; 0: none."""
        cells = (cell for cell in self.evaluation.cells if cell.noise == noise and sigma in (None, cell.sigma))
        return max((cell.passes for cell in cells), default=0)


def record(folder: RunFolder, records: Path) -> Record:
    """The record of a run that is finished and measured.

    Of one that was restored from a published file it is what `records` has of that file, with what is measured now.

    Raises:
        RecordError: it is not, or was restored from a file that is not on record.
        EvaluationError: its measurements cannot be read.
    """
    if not folder.weights.exists():
        raise RecordError(folder.path, "the run is not finished; train it first")
    recipe, network = folder.read_recipe(), folder.read_network()
    made: dict[str, Any] = checkpoint.read(folder.weights).state
    if "restored" in made:
        before, measured = recorded(records, recipe.network, recipe.variant), measurements(folder)
        if before is None or before.evaluation.sha256 != measured.sha256:
            why = f"was restored from {made['restored']}, which has no learning curve, and no record is of that file"
            raise RecordError(folder.path, why)
        return before.model_copy(update={"evaluation": measured})
    costs = count(network)
    return Record(
        network=recipe.network,
        variant=recipe.variant,
        noise=recipe.noise,
        sigma_train=recipe.sigma_train,
        changed=_changed(recipe),
        commit=made["commit"],
        versions=made["versions"],
        parameters=costs.parameters,
        multiply_accumulates=costs.macs,
        samples=costs.samples,
        layers=costs.noisy_layers,
        weight_norms=_weight_norms(network),
        epochs=_curve(folder.log),
        evaluation=measurements(folder),
        began=tuple(_differing(start) for start in starts(recipe)),
    )


def write(made: Record, records: Path) -> Path:
    """Put a record where `read_all` finds it: RECORDS/<network>/<variant>.json."""
    path = _place(records, made.network, made.variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, f"{made.model_dump_json(indent=1)}\n".encode())
    return path


def recorded(records: Path, network: str, variant: str) -> Record | None:
    """What is on record of a variant of a network, if anything.

    Raises:
        RecordError: the file is no record.
    """
    path = _place(records, network, variant)
    return _read(path) if path.exists() else None


def read_all(records: Path) -> dict[str, list[Record]]:
    """Network to its records, by noise kind (multiplicative first) and σ_train.

    Raises:
        RecordError: a file is no record.
    """
    found: dict[str, list[Record]] = {}
    for path in sorted(records.glob("*/*.json")):
        read = _read(path)
        found.setdefault(read.network, []).append(read)
    for runs in found.values():
        runs.sort(key=lambda run: (run.noise != "multiplicative", run.sigma_train))
    return found


def trained_for(runs: Sequence[Record], noise: NoiseKind) -> list[Record]:
    """Runs of a noise kind; where none of them was trained without noise, such a run of the other kind as well."""
    own = [run for run in runs if run.noise == noise]
    others = [run for run in runs if run.noise != noise and run.sigma_train == 0]
    return own if any(run.sigma_train == 0 for run in own) else [*others, *own]


def best(runs: Sequence[Record], noise: NoiseKind, sigma: float, votes: int) -> tuple[Record, Measured] | None:
    """The run of highest accuracy there; where several have it, the one of smallest σ_train, not calibrated first."""
    found = [(run, at) for run in trained_for(runs, noise) if (at := run.measured(noise, sigma, votes)) is not None]
    return max(
        found, key=lambda pair: (pair[1].accuracy, -pair[0].sigma_train, not pair[0].calibrated_at), default=None
    )


def _place(records: Path, network: str, variant: str) -> Path:
    return records / network / f"{variant}.json"


def _read(path: Path) -> Record:
    try:
        return Record.model_validate_json(path.read_text())
    except ValidationError as error:
        raise RecordError(path, str(error)) from error


def _changed(recipe: Recipe) -> dict[str, JsonValue]:
    return {key: value for key, value in _differing(recipe).items() if key not in {"noise", "sigma_train"}}


def _differing(recipe: Recipe) -> dict[str, JsonValue]:
    usual = Recipe.model_validate(_usual(recipe.network)).model_dump()
    return {key: value for key, value in recipe.model_dump().items() if value != usual[key]}


def _usual(network: str) -> dict[str, Any]:
    return {"network": network, **named(network).recipe_defaults}


def _weight_norms(network: Network) -> tuple[float, ...]:
    layers = [layer for layer in fold(network).modules() if isinstance(layer, NoisyLayer)]
    layers.sort(key=lambda layer: layer.noise.site)
    norms = [torch.linalg.vector_norm(layer.product.weight.detach().flatten(1), dim=1).mean() for layer in layers]
    return tuple(round(norm.item(), 5) for norm in norms)


def _curve(log: Path) -> tuple[Epoch, ...]:
    """The epochs of the log; one that was begun twice, because the run was stopped in it, is its last."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    epochs = {line["epoch"]: line for line in lines if line["event"] == "epoch"}
    return tuple(
        Epoch(epoch=epoch, **{name: round(line[name], 5) for name in CURVE}) for epoch, line in sorted(epochs.items())
    )
