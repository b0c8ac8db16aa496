"""A run folder holds everything about one variant.

`recipe.json` what was asked for, `log.jsonl` what happened (one JSON object a line), `checkpoint.safetensors`
the state after the latest epoch, `weights.safetensors` the result: averaged weights whose batch norms
were estimated under noise; later `<variant>.onnx`, `evaluation.json` and `evaluation-torch.json`.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisevote.training.errors import TrainingError
from noisevote.training.networks.network import Network
from noisevote.training.networks.registry import build
from noisevote.training.runs import checkpoint
from noisevote.training.runs.recipe import Recipe


class NoRunError(TrainingError):
    """The folder holds no run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"run folder {folder}: has no recipe.json")


class RecipeChangedError(TrainingError):
    """The run folder belongs to another recipe."""

    def __init__(self, folder: Path, changed: list[str]) -> None:
        super().__init__(f"run folder {folder}: was started with other values of {', '.join(changed)}")


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def recipe(self) -> Path:
        """What was asked for."""
        return self.path / "recipe.json"

    @property
    def log(self) -> Path:
        """One JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def checkpoint(self) -> Path:
        """State after the latest epoch."""
        return self.path / "checkpoint.safetensors"

    @property
    def weights(self) -> Path:
        """The result; present only when the run is finished."""
        return self.path / "weights.safetensors"

    @property
    def exported(self) -> Path:
        """The ONNX file, named after the variant."""
        return self.path / f"{self.read_recipe().variant}.onnx"

    def evaluation_by(self, engine: str) -> Path:
        """What an engine measured: ONNX Runtime of the ONNX file, the torch twin of the weights."""
        return self.path / ("evaluation.json" if engine == "onnxruntime" else f"evaluation-{engine}.json")

    @property
    def holdout_evaluation(self) -> Path:
        """What was measured on the training images that were held out."""
        return self.path / "holdout.json"

    def open(self, recipe: Recipe) -> None:
        """Create the folder for `recipe`, or check that it is the recipe's.

        Raises:
            RecipeChangedError: the folder was started with another recipe.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self.recipe.exists():
            before, now = self.read_recipe().model_dump(), recipe.model_dump()
            if changed := [key for key in now if before[key] != now[key]]:
                raise RecipeChangedError(self.path, changed)
        else:
            self.recipe.write_text(recipe.model_dump_json(indent=2) + "\n")

    def read_recipe(self) -> Recipe:
        """The recipe that the folder was started with.

        Raises:
            NoRunError: the folder holds no run.
        """
        if not self.recipe.exists():
            raise NoRunError(self.path)
        return Recipe.model_validate_json(self.recipe.read_text())

    def read_network(self) -> Network:
        """The trained network, in evaluation mode."""
        recipe = self.read_recipe()
        network = build(recipe.network, recipe.noise)
        network.load_state_dict(checkpoint.read(self.weights).part("model"))
        return network.eval()

    def append(self, event: str, **values: Any) -> None:
        """Add one line to the log."""
        with self.log.open("a") as log:
            log.write(json.dumps({"event": event, "time": time.time(), **values}) + "\n")
