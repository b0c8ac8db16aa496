"""Training of networks to be certified, whose only noise is Gaussian and on the input (Cohen et al. 2019, section 3.3).

Beside plain training under noise, two regularisers that make the votes of an input agree, and so the certified
radius larger: consistency (Jeong and Shin 2020, equation 7) and SmoothMix (Jeong et al. 2021, algorithm 1).
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, softmax

from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.fit.gradients import Gradients, autocast
from noisevote.training.networks.network import Network
from noisevote.training.noise.draws import laid_out
from noisevote.training.runs.recipe import Purpose, Recipe, derived_seed

ENTROPY_WEIGHT = 0.5  # of the mean prediction, beside the consistency; as in the paper
LEAST_PROBABILITY = 1e-20


class SmoothingGradients(Gradients):
    """`Compute` of the mean cross entropy of `loss_votes` votes of each input and of the recipe's regularisers."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        super().__init__(network, recipe)
        self.size = torch.ones((), device=next(network.parameters()).device)

    def begin(self, epoch: int) -> None:
        """See `Gradients.begin`."""
        torch.manual_seed(derived_seed(self.recipe.seed, Purpose.ATTACK, epoch))

    def at(self, epochs: float) -> None:
        """Regularisers grow linearly over the first tenth of all epochs; in place, where a graph reads it."""
        self.size.fill_(min(1.0, 10 * epochs / self.recipe.epochs))

    def __call__(self, inputs: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """See `Compute`; the share of right answers is that of single votes."""
        votes, recipe = self.recipe.loss_votes, self.recipe
        with drawing(draws), autocast(recipe, inputs.device):
            near, far = self._path(inputs, labels) if recipe.mix_weight > 0 else (inputs, inputs)
            logits = self._logits(near)
            each = labels[:, None].expand(-1, votes).reshape(-1)
            loss = cross_entropy(logits, each)
            mean = softmax(logits, dim=1).reshape(len(inputs), votes, -1).mean(dim=1)
            if recipe.consistency > 0:
                loss = loss + self.size * recipe.consistency * _divergence(mean, logits).mean()
                loss = loss + self.size * ENTROPY_WEIGHT * _entropy(mean).mean()
            if recipe.mix_weight > 0:
                loss = loss + self.size * recipe.mix_weight * self._mixed(near, far, mean, labels)
        self.network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return loss.detach(), (logits.argmax(1) == each).float().mean()

    def _logits(self, inputs: Tensor) -> Tensor:
        """[inputs · votes, classes], in float32; every call draws the same noise."""
        found: Tensor = self.network(laid_out(inputs)).float()
        return found

    def _path(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Both ends of what SmoothMix mixes: the input (or the first step of the attack), and where the attack ends.

        Each step goes `mix_step` along the gradient, of length 1, of −log of the votes' mean probability of the label.
        """
        x = near = inputs
        for number in range(self.recipe.mix_iterations):
            x = x.detach().requires_grad_()
            mean = softmax(self._logits(x), dim=1).reshape(len(x), self.recipe.loss_votes, -1).mean(dim=1)
            loss = -mean.gather(1, labels[:, None]).clamp_min(LEAST_PROBABILITY).log().sum()
            (slope,) = torch.autograd.grad(loss, x)
            length = slope.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1) + 1e-8
            x = (x + self.recipe.mix_step * slope / length).clamp(0, 1).detach()
            if number == 0 and self.recipe.mix_one_step:
                moved = (x - inputs).flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
                shrunk = (self.size * self.recipe.mix_step / moved.clamp_min(1e-8)).clamp_max(1.0)
                near = (inputs + shrunk * (x - inputs)).detach()
        return near, x

    def _mixed(self, near: Tensor, far: Tensor, mean: Tensor, labels: Tensor) -> Tensor:
        """Divergence of the answers to mixtures of both ends from the mixed targets, where the votes' mean is right."""
        share = torch.rand(len(near), device=near.device) / 2
        pixels = share.reshape(-1, 1, 1, 1)
        target = (1 - share)[:, None] * mean + share[:, None] / mean.shape[1]
        divergence = _divergence(target, self._logits((1 - pixels) * near + pixels * far))
        return ((mean.argmax(dim=1) == labels) * divergence).mean()


def _divergence(target: Tensor, logits: Tensor) -> Tensor:
    """Mean over the votes of Kullback and Leibler's divergence of each from its target.

    Args:
        target: probabilities [n, classes].
        logits: [n · votes, classes].

    Returns:
        [n].
    """
    votes = len(logits) // len(target)
    log = log_softmax(logits, dim=1).reshape(len(target), votes, -1).mean(dim=1)
    return -_entropy(target) - (target * log).sum(dim=1)


def _entropy(probabilities: Tensor) -> Tensor:
    """In nats, of each row."""
    return -(probabilities * probabilities.clamp_min(math.exp(-46)).log()).sum(dim=1)
