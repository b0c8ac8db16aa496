"""Records of the defence's training runs: recipe, learning curve, and what was measured while a card was at hand."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from noisevote.evaluation.results import sha256_of
from noisevote.training.attack.records import AttackRecord
from noisevote.training.report.record import RecordError
from noisevote.training.runs import checkpoint
from noisevote.training.runs.run_folder import RunFolder

DIGITS: Final = 5  # of a curve's figures
LEFT_OUT: Final = {"event", "time"}


class Certified(AttackRecord):
    """Votes of some test images under a network's own input noise, for certificates.

    `counts`: image to its votes per class, the first `n0` of them and the `n` following ones; image i draws with
    seed i. `labels` are those of these images, in their order.
    """

    sigma: float
    n0: int
    n: int
    counts: dict[int, tuple[list[int], list[int]]]
    labels: list[int]


class DefenceRun(AttackRecord):
    """One run. `measured` has accuracies under attacks, of the kinds that `card.measure` names.

    `halved`: the weights were kept in 16 bits, so that they are not to the bit those that were measured.
    """

    run: str
    model: str
    variant: str
    recipe: dict[str, Any]
    sha256: str
    halved: bool
    commit: str | None
    versions: dict[str, str]
    data_hashes: dict[str, str]
    epochs: list[dict[str, float]]
    best_epoch: int | None
    best_holdout_pgd: float | None
    measured: dict[str, float]
    certified: Certified | None


def defence_run(folder: RunFolder, labels: NDArray[np.integer[Any]]) -> DefenceRun:
    """The record of a finished run; `labels` are those of all test images.

    Raises:
        RecordError: the run is not finished.
    """
    if not folder.weights.exists():
        raise RecordError(folder.path, "the run is not finished; train it first")
    recipe = folder.read_recipe()
    state: dict[str, Any] = checkpoint.read(folder.weights).state
    found = _measured(folder.path / "measured.json")
    certified = found.pop("certificates", None)
    if certified is not None:
        certified["labels"] = [int(labels[int(image)]) for image in certified["counts"]]
    return DefenceRun(
        run=folder.path.name, model=recipe.model, variant=recipe.variant, recipe=recipe.model_dump(),
        sha256=sha256_of(folder.weights), halved=state.get("stored") == "float16", commit=state["commit"],
        versions=state["versions"], data_hashes=state["data_hashes"], epochs=_curve(folder.log),
        best_epoch=state.get("best_epoch"), best_holdout_pgd=state.get("best_holdout_pgd"), measured=found,
        certified=None if certified is None else Certified.model_validate(certified),
    )  # fmt: skip


def _measured(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def _curve(log: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        {name: round(value, DIGITS) for name, value in line.items() if name not in LEFT_OUT}
        for line in lines
        if line["event"] == "epoch"
    ]
