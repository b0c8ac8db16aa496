"""Accuracies that a run's log tells after each epoch: on a few images and one vote each, never a published figure.

Logs and records call them `glance_…`, as they did before this was called a quick evaluation.
"""

from typing import Final

import numpy as np
import torch

from noisevote.evaluation.examples import Examples
from noisevote.noise_op.torch_twin import drawing
from noisevote.training.networks.network import Network
from noisevote.training.noise.draws import constant_draws, laid_out
from noisevote.training.runs.recipe import Purpose, Recipe, derived_seed

QUICK_EVAL_IMAGES: Final = 2000
ROWS_PER_EVALUATION: Final = 500


def quick_evals(network: Network, recipe: Recipe, examples: Examples) -> dict[str, float]:
    """One-vote accuracy of a network on examples, noiseless and at sigma_train, by the names that the log has."""
    return {
        "glance_noiseless": one_vote_accuracy(network, recipe, examples, 0.0),
        "glance_one_vote": one_vote_accuracy(network, recipe, examples, recipe.sigma_train),
    }


@torch.no_grad()
def one_vote_accuracy(network: Network, recipe: Recipe, examples: Examples, sigma: float) -> float:
    """Share of the examples whose single vote is right; computed where the network is."""
    device = next(network.parameters()).device
    right, seed = 0, derived_seed(recipe.seed, Purpose.TEST_NOISE)
    network.eval()
    for start in range(0, len(examples), ROWS_PER_EVALUATION):
        chosen = slice(start, start + ROWS_PER_EVALUATION)
        labels = torch.from_numpy(examples.labels[chosen].astype(np.int64)).to(device)
        inputs = laid_out(torch.from_numpy(examples.values(chosen)).to(device))
        with drawing(constant_draws(recipe.noise, sigma, seed, len(labels), start, device)):
            logits = network(inputs)
        right += int((logits.argmax(1) == labels).sum())
    return right / len(examples)
