"""Crafting a transfer set: batch by batch into its folder, from where it stopped."""

from pathlib import Path
from typing import Final

import torch
from torch import nn
from tqdm import tqdm

from noisevote.evaluation.examples import Examples
from noisevote.training.attack.craft import craft
from noisevote.training.attack.target import Target
from noisevote.training.attack.transfer_set import TransferRecipe, append, open_set

BATCH: Final = 500  # images of a part
ROWS: Final = {"cpu": 50, "cuda": 500}  # at once


def craft_into(
    folder: Path, told: TransferRecipe, network: nn.Module, examples: Examples, device: torch.device
) -> None:
    """Craft what the set lacks of the examples' adversarial ones, without noise.

    Raises:
        TransferSetError: the folder holds a set of another recipe.
    """
    target = Target(network, bfloat16=device.type == "cuda")
    first = open_set(folder, told)
    with tqdm(total=len(examples), initial=first, unit="image", desc=folder.name, disable=None) as bar:
        while first < len(examples):
            upto = min(first + BATCH, len(examples))
            parts, wrong = [], 0.0
            for start in range(first, upto, ROWS[device.type]):
                chosen = slice(start, min(start + ROWS[device.type], upto))
                inputs = torch.from_numpy(examples.values(chosen)).to(device)
                labels = torch.from_numpy(examples.labels[chosen]).long().to(device)
                steps, restarts = told.steps, told.restarts
                found = craft(target, steps, inputs, labels, restarts=restarts, seed=told.seed, first_input=start)
                parts.append(found.inputs.cpu())
                wrong += float(found.wrong.sum())
                bar.update(len(inputs))
            append(folder, told, first, torch.cat(parts), examples.inputs[first:upto])
            bar.write(f"{folder.name}: images {first} to {upto - 1}, {wrong / (upto - first):.4f} wrong")
            first = upto
