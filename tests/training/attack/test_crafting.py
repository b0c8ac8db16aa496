from pathlib import Path

import numpy as np
import pytest

from noisevote.evaluation.examples import Examples
from noisevote.training.attack import crafting
from noisevote.training.attack.crafting import craft_into
from noisevote.training.attack.steps import pgd
from noisevote.training.attack.transfer_set import TransferRecipe, read_set
from noisevote.training.noise.draws import CPU
from noisevote.training.runs.run_folder import RunFolder


def test_crafting_goes_on_where_it_stopped(
    trained: RunFolder, digits: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that is crafted in two calls is the one of a single call, to the last bit, and it fools its source."""
    monkeypatch.setattr(crafting, "BATCH", 16)
    told = TransferRecipe("mnist", "mnist-cnn", "0" * 64, pgd(0.3, 0.1, 3), 2, 0, 2)
    network = trained.read_network()
    craft_into(tmp_path / "whole", told, network, digits, CPU)
    for images in (32, 64):
        craft_into(tmp_path / "parts", told, network, digits.first(images), CPU)
    (whole, made), (parts, also) = (read_set(tmp_path / name, digits) for name in ("whole", "parts"))
    assert np.array_equal(whole.inputs, parts.inputs)
    assert made == also
    assert made["images"] == 64
