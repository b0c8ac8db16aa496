"""The steps of all gradient attacks here: along the sign of a gradient, back into the ball and the pixel range.

FGSM (Goodfellow et al. 2015, section 4) is one whole step without a random start; iterative FGSM, or BIM (Kurakin
et al. 2017, section 2.2), several small ones; PGD (Madry et al. 2018, section 2.1) the same from a random start;
MI-FGSM (Dong et al. 2018, algorithm 1) sums up what the gradients have in common on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

LOWEST: Final = 0.0  # the pixel range
HIGHEST: Final = 1.0

# From inputs [n, ...] to the gradient of a loss to be raised, of the same shape.
Gradient = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Steps:
    """How an attack goes.

    Attributes:
        eps: radius of the maximum-norm ball around each input that an example must stay in, in pixel units of [0, 1].
        step: length of a step, in the same units.
        iterations: steps, a gradient each.
        random_start: from a uniform point of the ball instead of its centre.
        momentum: decay of the sum of earlier gradients (Dong et al.); 0: each step follows its own gradient.
        diversity: probability of showing the network a shrunk and shifted input instead (Xie et al. 2019).
    """

    eps: float
    step: float
    iterations: int
    random_start: bool = True
    momentum: float = 0.0
    diversity: float = 0.0


def fgsm(eps: float) -> Steps:
    """One step to the ball's surface from its centre."""
    return Steps(eps, eps, 1, random_start=False)


def bim(eps: float, step: float, iterations: int) -> Steps:
    """Iterative FGSM: from the centre."""
    return Steps(eps, step, iterations, random_start=False)


def pgd(eps: float, step: float, iterations: int) -> Steps:
    """Projected gradient descent: from a random start."""
    return Steps(eps, step, iterations)


def for_transfer(steps: Steps, momentum: float = 1.0, diversity: float = 0.5) -> Steps:
    """The same with what makes examples work on other networks too: momentum (Dong et al.) and diverse inputs."""
    return replace(steps, momentum=momentum, diversity=diversity)


def ascend(
    gradient: Gradient, inputs: Tensor, steps: Steps, start: Tensor | None, size: Tensor | float = 1.0
) -> Tensor:
    """Adversarial examples [n, ...], each within `eps` of its input and within the pixel range after every step.

    Args:
        gradient: of the loss to be raised.
        inputs: float32 [n, ...] in the pixel range.
        steps: how.
        start: float32 like `inputs`, in [-1, 1]: where in the ball to begin; None: its centre.
        size: factor of eps and step, a number or a tensor [] on the inputs' device.
    """
    eps, step = steps.eps * size, steps.step * size
    low, high = (inputs - eps).clamp_min(LOWEST), (inputs + eps).clamp_max(HIGHEST)
    x = inputs if start is None else torch.minimum(torch.maximum(inputs + eps * start, low), high)
    common = torch.zeros_like(inputs)
    for _ in range(steps.iterations):
        slope = gradient(x)
        if steps.momentum > 0:
            mean = slope.abs().flatten(1).mean(dim=1).clamp_min(1e-30)
            common = steps.momentum * common + slope / mean.reshape(-1, *[1] * (slope.dim() - 1))
            slope = common
        x = torch.minimum(torch.maximum(x + step * slope.sign(), low), high)
    return x


def random_start(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform in [-1, 1], like `inputs`; drawn where the generator is."""
    drawn = torch.rand(inputs.shape, generator=generator, device=generator.device)
    return (drawn * 2 - 1).to(inputs.device)
