"""Adversarial examples of given inputs: an attack's steps from several starts, the worst example of each kept."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from noisevote.evaluation.examples import Examples
from noisevote.training.attack.steps import Steps, ascend, random_start
from noisevote.training.attack.target import Target
from noisevote.training.runs.recipe import Purpose, derived_seed

JUDGING_VOTES = 2**31  # votes from here on judge; gradients use lower ones, so that no example is fitted to its judge


@dataclass(frozen=True)
class Crafted:
    """Adversarial examples and what the target makes of them.

    Attributes:
        inputs: float32 [n, ...], within ball and pixel range.
        wrong: float32 [n], share of the judging votes that are not the label; without noise 0 or 1.
        loss: float32 [n], their mean cross entropy.
    """

    inputs: Tensor
    wrong: Tensor
    loss: Tensor


def craft(
    target: Target, steps: Steps, inputs: Tensor, labels: Tensor, *, restarts: int = 1, seed: int = 0,
    first_input: int = 0,
) -> Crafted:  # fmt: skip
    """The worst example of each input that an attack finds in several tries.

    A later try replaces an example only where it turns over more of the judging votes, or as many at a higher
    loss, and has starts of its own that depend on nothing but (seed, first_input, its number): more restarts
    never lower success.

    Args:
        target: the network under noise; its gradients are raised.
        steps: how; `random_start` is what makes restarts differ.
        inputs: float32 [n, ...] in the pixel range, where the network is.
        labels: int64 [n], true classes.
        restarts: tries, at least one.
        seed: of starts and diverse inputs.
        first_input: number of the first input.
    """
    best: Crafted | None = None
    for restart in range(max(1, restarts)):
        generator = torch.Generator().manual_seed(derived_seed(seed, Purpose.ATTACK, first_input * 1000 + restart))
        start = random_start(inputs, generator) if steps.random_start else None
        gradient = target.gradient(labels, generator, steps.diversity, first_input)
        found = judged(target, ascend(gradient, inputs, steps, start), labels, first_input)
        best = found if best is None else _worse(best, found)
    assert best is not None  # there is a first try
    return best


@torch.no_grad()
def judged(target: Target, inputs: Tensor, labels: Tensor, first_input: int = 0) -> Crafted:
    """What votes that no gradient saw make of the inputs; of a known seed, the known votes."""
    first_vote = 0 if target.known else JUDGING_VOTES
    logits = target.logits(inputs, target.draws, first_vote, first_input)
    wrong = (logits.argmax(dim=2) != labels[:, None]).float().mean(dim=1)
    return Crafted(inputs, wrong, Target.losses(logits, labels))


def craft_all(
    target: Target, steps: Steps, examples: Examples, device: torch.device, *, restarts: int = 1, seed: int = 0,
    rows: int = 500, first: int = 0,
) -> Iterator[Crafted]:  # fmt: skip
    """`craft` of all examples from number `first` on, `rows` at a time."""
    for start in range(first, len(examples), rows):
        chosen = slice(start, start + rows)
        inputs = torch.from_numpy(examples.values(chosen)).to(device)
        labels = torch.from_numpy(examples.labels[chosen]).long().to(device)
        yield craft(target, steps, inputs, labels, restarts=restarts, seed=seed, first_input=start)


def accuracy_under(
    target: Target, steps: Steps, examples: Examples, device: torch.device, *, restarts: int = 1, seed: int = 0,
    rows: int = 500,
) -> float:  # fmt: skip
    """Share of judging votes that are right after the attack."""
    found = craft_all(target, steps, examples, device, restarts=restarts, seed=seed, rows=rows)
    return 1 - float(torch.cat([crafted.wrong.cpu() for crafted in found]).double().mean())


def _worse(before: Crafted, found: Crafted) -> Crafted:
    replaced = (found.wrong > before.wrong) | ((found.wrong == before.wrong) & (found.loss > before.loss))
    shaped = replaced.reshape(-1, *[1] * (before.inputs.dim() - 1))
    return Crafted(
        torch.where(shaped, found.inputs, before.inputs),
        torch.where(replaced, found.wrong, before.wrong),
        torch.where(replaced, found.loss, before.loss),
    )
