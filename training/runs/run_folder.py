"""The folder of one run, which holds everything about the variant that it makes.

- `recipe.json`: the recipe that the run was started with
- `log.jsonl`: what happened, one JSON object a line
- `checkpoint.safetensors`: the state after the latest epoch
- `weights.safetensors`: the result, averaged weights whose batch norms were estimated under noise
- `<variant>.onnx`: the exported file
- `evaluation.json`, `evaluation-torch.json`, `holdout.json`: what was measured
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from noisevote.model_store.files import replace_file
from noisevote.training.errors import TrainingError
from noisevote.training.networks.network import Network
from noisevote.training.networks.registry import build
from noisevote.training.runs import checkpoint
from noisevote.training.runs.checkpoint import Checkpoint
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
    """Names the files of one run, and reads and writes those that are its own."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe that the run was started with."""
        return self.path / "recipe.json"

    @property
    def log(self) -> Path:
        """The log, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The state after the latest epoch, to go on from."""
        return self.path / "checkpoint.safetensors"

    @property
    def weights(self) -> Path:
        """The trained weights, which are there only once the run is finished."""
        return self.path / "weights.safetensors"

    @property
    def exported(self) -> Path:
        """The ONNX file, named after the variant."""
        return self.path / f"{self.read_recipe().variant}.onnx"

    def evaluation_by(self, engine: str) -> Path:
        """The results of an engine: ONNX Runtime measures the ONNX file, the torch twin the weights."""
        return self.path / ("evaluation.json" if engine == "onnxruntime" else f"evaluation-{engine}.json")

    @property
    def holdout_evaluation(self) -> Path:
        """The results on the training images that were held out."""
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
            replace_file(self.recipe, f"{recipe.model_dump_json(indent=2)}\n".encode())

    def read_recipe(self) -> Recipe:
        """Read the recipe that the folder was started with.

        Raises:
            NoRunError: the folder holds no run.
        """
        if not self.recipe.exists():
            raise NoRunError(self.path)
        return Recipe.model_validate_json(self.recipe.read_text())

    def read_network(self) -> Network:
        """Read the trained network, in evaluation mode."""
        recipe = self.read_recipe()
        network = build(recipe.network, recipe.noise)
        network.load_state_dict(checkpoint.read(self.weights).part("model"))
        return network.eval()

    def write_network(self, network: nn.Module, state: dict[str, Any]) -> None:
        """Write the weights of the trained network, and a state that says where they come from: the run is finished."""
        tensors = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
        checkpoint.write(self.weights, Checkpoint(tensors, state))

    def append(self, event: str, **values: Any) -> None:
        """Add one line to the log."""
        with self.log.open("a") as log:
            log.write(json.dumps({"event": event, "time": time.time(), **values}) + "\n")
