"""Which gradients a recipe trains with."""

from training.attack.adversarial import AdversarialGradients
from training.attack.smoothing import SmoothingGradients
from training.gradients import Gradients
from training.networks.network import Network
from training.recipe import Recipe


def gradients_of(network: Network, recipe: Recipe) -> Gradients:
    """Adversarial ones, those with a regulariser of smoothing, or plain ones."""
    if recipe.adversarial_share > 0:
        return AdversarialGradients(network, recipe)
    if recipe.consistency > 0 or recipe.mix_weight > 0:
        return SmoothingGradients(network, recipe)
    return Gradients(network, recipe)
