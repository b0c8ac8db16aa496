from pathlib import Path

import numpy as np
import pytest
import torch

from noisevote.evaluation.examples import Examples
from noisevote.training.attack.steps import pgd
from noisevote.training.attack.transfer_set import TransferRecipe, TransferSetError, append, open_set, read_set


def recipe(per_byte: int, eps: float) -> TransferRecipe:
    """Of a set that is made of random steps."""
    return TransferRecipe("mnist", "mnist-madry", "0" * 64, pgd(eps, eps / 6, 20), 20, 0, per_byte)


def attacked(digits: Examples, eps: float) -> torch.Tensor:
    """The digits moved at random to the ball's surface or inside, within the range."""
    generator = np.random.default_rng(0)
    clean = digits.values(slice(None))
    added = np.where(generator.random(clean.shape) < 0.5, eps, generator.uniform(-eps, eps, clean.shape))
    return torch.from_numpy(np.clip(clean + added.astype(np.float32), 0, 1))


@pytest.mark.parametrize(("per_byte", "eps"), [(2, 0.3), (1, 8 / 255)])
def test_stored_examples_stay_in_ball_and_range(digits: Examples, tmp_path: Path, per_byte: int, eps: float) -> None:
    """What is read is within eps and [0, 1] and within half a step of the grid of what was crafted."""
    told, crafted = recipe(per_byte, eps), attacked(digits, eps)
    for first in (0, 32):
        assert open_set(tmp_path / "set", told) == first
        append(tmp_path / "set", told, first, crafted[first : first + 32], digits.inputs[first : first + 32])
    found, made = read_set(tmp_path / "set", digits)
    assert np.array_equal(found.labels, digits.labels)
    assert made["images"] == 64
    assert np.abs(found.inputs - digits.values(slice(None))).max() <= eps + 1e-6
    assert found.inputs.min() >= 0
    assert found.inputs.max() <= 1
    assert np.abs(found.inputs - crafted.numpy()).max() <= 0.5 / (255 * per_byte) + 1e-6


def test_set_of_another_recipe_is_refused(digits: Examples, tmp_path: Path) -> None:
    """A folder is never filled with examples of two attacks, and one without any is no set."""
    open_set(tmp_path / "set", recipe(2, 0.3))
    with pytest.raises(TransferSetError, match="another recipe"):
        open_set(tmp_path / "set", recipe(2, 0.2))
    with pytest.raises(TransferSetError, match="no examples"):
        read_set(tmp_path / "set", digits)


def test_examples_outside_their_ball_are_refused(digits: Examples, tmp_path: Path) -> None:
    """A part that was tampered with is not read."""
    told = recipe(2, 0.3)
    open_set(tmp_path / "set", told)
    append(tmp_path / "set", told, 0, attacked(digits, 0.3), digits.inputs)
    np.savez_compressed(tmp_path / "set" / "from-00000.npz", added=np.full(digits.inputs.shape, 200, np.int16))
    with pytest.raises(TransferSetError, match="leaves"):
        read_set(tmp_path / "set", digits)
