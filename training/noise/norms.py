"""Statistics of batch norms, estimated anew under noise with the weights left as they are."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from noisevote.noise_op.torch_twin import drawing
from noisevote.training.noise.draws import constant_draws
from noisevote.training.runs.recipe import Purpose, Recipe, derived_seed


def norms_of(network: nn.Module) -> list[BatchNorm]:
    """The network's batch norms."""
    return [module for module in network.modules() if isinstance(module, BatchNorm)]


@torch.no_grad()
def estimate_norms(network: nn.Module, batches: Iterable[Tensor], recipe: Recipe) -> None:
    """Plain mean of the batches' own statistics, under noise of the recipe's `norm_sigma`, else its sigma_train.

    Args:
        network: left in training mode.
        batches: inputs [recipe.batch, *input_shape] each, where the network is.
        recipe: says the noise.
    """
    norms = norms_of(network)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: cumulative average
    network.train()
    seed = derived_seed(recipe.seed, Purpose.NORM_NOISE)
    sigma = recipe.sigma_train if recipe.norm_sigma is None else recipe.norm_sigma
    for step, inputs in enumerate(batches):
        with drawing(constant_draws(recipe.noise, sigma, seed, len(inputs), step * recipe.batch, inputs.device)):
            network(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
