"""Adversarial training (Madry et al. 2018, section 2): gradients of a batch, all or part of it made adversarial.

With a share of 1 the network learns from adversarial examples alone; with 0.5, as in Kurakin et al. 2017, from half
natural and half adversarial minibatches. The examples are made against the network as it stands, under fresh noise.
"""

from dataclasses import replace

import torch
from torch import Tensor

from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.attack.steps import Steps, ascend
from noisevote.training.fit.gradients import Gradients, autocast, loss_of
from noisevote.training.networks.network import Network
from noisevote.training.noise.draws import laid_out
from noisevote.training.runs.recipe import Purpose, Recipe, derived_seed


def steps_of(recipe: Recipe) -> Steps:
    """The attack that a recipe trains against."""
    return Steps(
        recipe.adversarial_eps, recipe.adversarial_step, recipe.adversarial_iterations, recipe.adversarial_start
    )


class AdversarialGradients(Gradients):
    """`Compute` of a batch whose first inputs, `adversarial_share` of them, are replaced by adversarial examples.

    Random starts come from torch's own generator, which `begin` seeds by (seed, epoch): a recorded graph
    draws from it anew at every replay.
    """

    def __init__(self, network: Network, recipe: Recipe) -> None:
        super().__init__(network, recipe)
        self.steps = steps_of(recipe)
        self.size = torch.ones((), device=next(network.parameters()).device)

    def begin(self, epoch: int) -> None:
        """See `Gradients.begin`."""
        torch.manual_seed(derived_seed(self.recipe.seed, Purpose.ATTACK, epoch))

    def at(self, epochs: float) -> None:
        """The ball grows linearly from nothing over `adversarial_ramp_epochs`; in place, where a graph reads it."""
        ramp = self.recipe.adversarial_ramp_epochs
        self.size.fill_(min(1.0, epochs / ramp) if ramp > 0 else 1.0)

    def __call__(self, inputs: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """See `Compute`."""
        count = round(self.recipe.adversarial_share * len(inputs))
        crafted = self._crafted(inputs[:count], labels[:count], draws)
        return super().__call__(laid_out(torch.cat((crafted, inputs[count:]))), labels, draws)

    def _crafted(self, inputs: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        count = len(inputs)
        start = torch.rand_like(inputs) * 2 - 1 if self.steps.random_start else None
        own = replace(draws, sigma=draws.sigma[:count], seed=draws.seed[:count], vote=draws.vote[:count], row=None)
        own = replace(own, output=None)

        def gradient(x: Tensor) -> Tensor:
            nonlocal own
            own = replace(own, seed=own.seed + 1)  # fresh noise each time, and other than what trains
            x = x.detach().requires_grad_()
            with drawing(own), autocast(self.recipe, x.device):
                loss = loss_of(self.network(laid_out(x)).float(), labels, self.recipe)
            (slope,) = torch.autograd.grad(loss, x)
            return slope

        return ascend(gradient, inputs, self.steps, start, self.size).detach()
