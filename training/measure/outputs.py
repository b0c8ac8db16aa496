"""How the outputs of one input scatter under growing noise (the paper's Figures 4 and 5)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.votes import cast_logits
from noisevote.model_store.files import replace_file
from noisevote.training.errors import TrainingError
from noisevote.training.runs.run_folder import RunFolder

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
SIGMAS: Final = (0.2, 0.6, 1.0)


class OutputsError(TrainingError):
    """A file does not hold measured outputs."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"outputs {path}: {why}")


class Outputs(BaseModel):
    """`logits[variant][sigma][class]` are the QUANTILES of a logit over `votes` runs of test input `index`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    index: int
    label: int
    votes: int
    sigmas: tuple[float, ...]
    logits: dict[str, tuple[tuple[tuple[float, ...], ...], ...]]


def outputs(folders: Sequence[RunFolder], examples: Examples, index: int, votes: int) -> Outputs:
    """Measure one test input on the exported runs of one network, under the noise kind of the first."""
    recipes = [folder.read_recipe() for folder in folders]
    kind = recipes[0].noise
    one = Examples(examples.inputs[index : index + 1], examples.labels[index : index + 1])
    plan = Plan((kind,), SIGMAS, votes, seed=index)
    logits = {}
    for folder, recipe in zip(folders, recipes, strict=True):
        engine = OnnxRuntime(folder.exported)
        scattered = [cast_logits(engine, one, (kind, sigma), plan)[0] for sigma in SIGMAS]  # [votes, classes] each
        found = np.quantile(np.array(scattered, np.float64), QUANTILES, axis=1)  # [quantiles, sigmas, classes]
        logits[recipe.variant] = found.transpose(1, 2, 0).round(4).tolist()
    return Outputs(
        network=recipes[0].network, index=index, label=int(one.labels[0]), votes=votes, sigmas=SIGMAS, logits=logits
    )


def write(made: Outputs, folder: Path) -> Path:
    """Put it where the report finds it: FOLDER/<network>.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{made.network}.json"
    replace_file(path, f"{made.model_dump_json()}\n".encode())
    return path


def read(folder: Path, network: str) -> Outputs | None:
    """Read what was measured of a network, if anything.

    Raises:
        OutputsError: the file is not one of outputs.
    """
    path = folder / f"{network}.json"
    if not path.exists():
        return None
    try:
        return Outputs.model_validate_json(path.read_text())
    except ValidationError as error:
        raise OutputsError(path, str(error)) from error
