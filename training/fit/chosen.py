"""Which gradients a recipe trains with."""

from noisevote.training.fit.adversarial import AdversarialGradients
from noisevote.training.fit.gradients import Gradients
from noisevote.training.fit.smoothing import SmoothingGradients
from noisevote.training.networks.network import Network
from noisevote.training.runs.recipe import Recipe


def gradients_of(network: Network, recipe: Recipe) -> Gradients:
    """Adversarial ones, those with a regulariser of smoothing, or plain ones."""
    if recipe.adversarial_share > 0:
        return AdversarialGradients(network, recipe)
    if recipe.consistency > 0 or recipe.mix_weight > 0:
        return SmoothingGradients(network, recipe)
    return Gradients(network, recipe)
