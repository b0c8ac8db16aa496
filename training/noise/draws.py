"""The draws of noise sites while a network is trained, and the memory layout of its inputs."""

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from noisevote.noise_op.contract import NoiseKind, sigma_row
from noisevote.noise_op.torch_twin import Draws
from noisevote.training.runs.recipe import Purpose, Recipe, derived_seed

CPU: Final = torch.device("cpu")


def presentation_draws(
    recipe: Recipe, step: int, inputs: int, steps_per_epoch: int, votes: int = 1, device: torch.device = CPU
) -> Draws:
    """Fresh noise for `votes` votes of each of a step's inputs: vote numbers count all votes of all steps before."""
    sigma, seed = sigma_at(recipe, step, steps_per_epoch), derived_seed(recipe.seed, Purpose.NOISE)
    draws = constant_draws(recipe.noise, sigma, seed, inputs * votes, step * inputs * votes, device)
    row = torch.arange(inputs, device=device).repeat_interleave(votes, output_size=inputs * votes)
    return draws if votes == 1 else replace(draws, row=row)


def sigma_at(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Sigma of a step: a linear ramp over the first `ramp_epochs` epochs, then sigma_train."""
    ramp = recipe.ramp_epochs * steps_per_epoch
    return recipe.sigma_train * (min(1.0, (step + 1) / ramp) if ramp > 0 else 1.0)


def constant_draws(
    kind: NoiseKind, sigma: float, seed: int, rows: int, first_vote: int, device: torch.device = CPU
) -> Draws:
    """Draws of one sigma and seed for votes first_vote, first_vote + 1, …, one each row."""
    multiplicative, additive = sigma_row(kind, sigma)
    # filled where they are needed: a copy from the host would make it wait for the device
    columns = [torch.full((rows,), value, device=device) for value in (multiplicative, additive)]
    return Draws(
        sigma=torch.stack(columns, dim=1),
        seed=torch.full((rows,), seed, dtype=torch.int64, device=device),
        vote=torch.arange(first_vote, first_vote + rows, dtype=torch.int64, device=device),
    )


def laid_out(inputs: Tensor) -> Tensor:
    """Return the inputs, images [n, channels, height, width] channels-last in memory, as the weights are."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs
