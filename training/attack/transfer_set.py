"""A transfer set: adversarial examples crafted on another network, stored as what was added to the images.

A folder holds `recipe.json` (who was attacked and how) and parts `from-<first image>.npz`. What was added is kept in
whole steps of a grid that the images and eps lie on, so that no rounding leads out of the ball or the pixel range.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from noisevote.evaluation.examples import Examples
from noisevote.training.attack.steps import Steps
from noisevote.training.errors import TrainingError

BYTE = 255


class TransferSetError(TrainingError):
    """A transfer set cannot be read."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(f"transfer set {folder}: {why}")


@dataclass(frozen=True)
class TransferRecipe:
    """How a set was made.

    Attributes:
        data_set: whose test images it starts from.
        network: that was attacked.
        weights: SHA-256 of its file.
        steps: of the attack.
        restarts: tries, of which the worst example is kept.
        seed: of random starts.
        per_byte: steps of the grid from one byte of a pixel to the next; 2 puts 0.3 on it, 1 puts 8/255 there.
    """

    data_set: str
    network: str
    weights: str
    steps: Steps
    restarts: int
    seed: int
    per_byte: int

    @staticmethod
    def read(folder: Path) -> dict[str, Any]:
        """The recipe of a set, as it is stored.

        Raises:
            TransferSetError: the folder holds no set.
        """
        file = folder / "recipe.json"
        if not file.exists():
            raise TransferSetError(folder, "has no recipe.json")
        recipe: dict[str, Any] = json.loads(file.read_text())
        return recipe


def open_set(folder: Path, recipe: TransferRecipe) -> int:
    """Start a set, or go on with one; returns the number of the first image that it lacks.

    Raises:
        TransferSetError: the folder holds a set of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, told = folder / "recipe.json", asdict(recipe)
    if file.exists() and json.loads(file.read_text()) != told:
        raise TransferSetError(folder, "was started with another recipe")
    file.write_text(json.dumps(told, indent=1) + "\n")
    return sum(len(_part(part)) for part in _parts(folder))


def append(folder: Path, recipe: TransferRecipe, first: int, crafted: Tensor, originals: NDArray[Any]) -> None:
    """Write the examples of images first, first + 1, …, each within eps and the range on the grid.

    Args:
        folder: of the set.
        recipe: its own.
        first: number of the first image.
        crafted: float32 [n, ...] in [0, 1].
        originals: uint8 [n, ...], the images themselves.
    """
    grid = recipe.per_byte * BYTE
    most = int(recipe.steps.eps * grid + 1e-3)
    placed = np.rint(crafted.cpu().numpy().astype(np.float64) * grid).astype(np.int64)
    added = np.clip(placed - originals.astype(np.int64) * recipe.per_byte, -most, most).astype(np.int16)
    part = folder / f".from-{first:05d}.npz"
    np.savez_compressed(part, added=added)
    part.replace(folder / f"from-{first:05d}.npz")


def read_set(folder: Path, originals: Examples) -> tuple[Examples, dict[str, Any]]:
    """The examples, float32 inputs in [0, 1] with their labels, and the recipe with `sha256` of all that was added.

    Args:
        folder: of the set.
        originals: the test images that it starts from.

    Raises:
        TransferSetError: the folder holds no set, or one that leaves its ball or the pixel range.
    """
    recipe = TransferRecipe.read(folder)
    parts = [_part(part) for part in _parts(folder)]
    if not parts:
        raise TransferSetError(folder, "holds no examples")
    added, grid = np.concatenate(parts), recipe["per_byte"] * BYTE
    chosen = originals.first(len(added))
    values = chosen.inputs.astype(np.int64) * recipe["per_byte"] + added
    if np.abs(added).max() > recipe["steps"]["eps"] * grid + 1e-3 or values.min() < 0 or values.max() > grid:
        raise TransferSetError(folder, "leaves its ball or the pixel range")
    digest = hashlib.sha256(added.tobytes()).hexdigest()
    inputs = (values / grid).astype(np.float32)
    return Examples(inputs, chosen.labels), {**recipe, "images": len(added), "sha256": digest}


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("from-*.npz"))


def _part(file: Path) -> NDArray[np.int16]:
    with np.load(file) as stored:
        return np.asarray(stored["added"], np.int16)
