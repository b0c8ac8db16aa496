"""The best epoch of adversarial training: judged by an attack on training images that were held out of it."""

import copy
from pathlib import Path
from typing import Any, Final

import torch

from noisevote.training.attack.craft import accuracy_under
from noisevote.training.attack.steps import pgd
from noisevote.training.attack.target import Noise, Target
from noisevote.training.data.data_set import DataSet
from noisevote.training.fit.adversarial import steps_of
from noisevote.training.networks.network import Network
from noisevote.training.networks.registry import build
from noisevote.training.runs import checkpoint
from noisevote.training.runs.checkpoint import Checkpoint
from noisevote.training.runs.recipe import Purpose, Recipe, derived_seed
from noisevote.training.runs.run_folder import RunFolder

ITERATIONS: Final = 20  # of the judging attack
STEP_SHARE: Final = 1 / 8  # of eps, its steps
ROWS: Final = 1000


class Best:
    """Keeps the network of the epoch that stood the attack best, in the run folder, so that stopping loses nothing.

    Judged is what the recipe trains for, at its sigma_train, by PGD of 20 steps on the held-out images: test images
    never choose. Of a recipe without adversarial examples, or without held-out images, nothing is kept.
    """

    def __init__(self, recipe: Recipe, data: DataSet, folder: RunFolder, device: torch.device) -> None:
        self.recipe = recipe
        self.file = folder.path / "best.safetensors"
        self.device = device
        self.active = recipe.adversarial_share > 0 and recipe.holdout > 0
        self.examples = data.to_judge(recipe.holdout)

    def judge(self, network: Network, epoch: int) -> dict[str, float]:
        """The accuracy under attack after an epoch, for the log; the network is kept if it is the best so far."""
        if not self.active:
            return {}
        found = self.accuracy(network)
        if found >= self.told().get("best_holdout_pgd", 0.0):
            tensors = {f"model.{name}": tensor for name, tensor in copy.deepcopy(network).state_dict().items()}
            state = {"recipe": self.recipe.model_dump(), "best_epoch": epoch, "best_holdout_pgd": found}
            checkpoint.write(self.file, Checkpoint(tensors, state))
        return {"holdout_pgd": found}

    def accuracy(self, network: Network) -> float:
        """Share of the held-out images that are right after PGD of 20 steps."""
        recipe = self.recipe
        noise = Noise(recipe.noise, recipe.sigma_train, derived_seed(recipe.seed, Purpose.TEST_NOISE))
        target = Target(network, noise, draws=1, bfloat16=recipe.precision == "bfloat16")
        eps = steps_of(recipe).eps
        return accuracy_under(target, pgd(eps, eps * STEP_SHARE, ITERATIONS), self.examples, self.device, rows=ROWS)

    def told(self) -> dict[str, Any]:
        """Which epoch is the best one, and its accuracy under attack; nothing if none was judged."""
        if not self.file.exists():
            return {}
        state = checkpoint.read(self.file).state
        return {name: state[name] for name in ("best_epoch", "best_holdout_pgd")}

    def network(self) -> Network | None:
        """The best epoch's network, on the CPU, in evaluation mode; None if none was judged."""
        return _read(self.file, self.recipe) if self.file.exists() else None


def _read(file: Path, recipe: Recipe) -> Network:
    network = build(recipe.network, recipe.noise)
    network.load_state_dict(checkpoint.read(file).part("model"))
    return network.eval()
