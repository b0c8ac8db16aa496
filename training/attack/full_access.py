"""Attacks with full access, measured: worst examples are chosen on some votes, and judged by others.

Were both the same votes, an image that only had unlucky noise would count as attacked.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.provenance import git_commit, versions
from noisevote.training.attack.craft import Crafted, craft
from noisevote.training.attack.craft import judged as examined
from noisevote.training.attack.records import FullAccess, Outcome, started
from noisevote.training.attack.steps import HIGHEST, LOWEST, Steps
from noisevote.training.attack.target import Noise, Target
from noisevote.training.attack.transfer_votes import outcomes
from noisevote.training.attack.victim import Victim
from noisevote.training.errors import TrainingError

BLOCK: Final = 10  # images between two writes of a record
FRESH_SEED: Final = 2**40  # added to the noise's seed: the votes that judge are of other draws than the attack's
VOTES_AT_ONCE: Final = 20
COUNTS: Final = (1, 5, 20, 100)  # numbers of votes whose decisions are kept
TOLD: Final = (
    "model", "variant", "sha256", "steps", "restarts", "noise", "sigma", "seed", "draws", "known", "source", "every",
    "before", "among", "votes",
)  # fmt: skip
ROUNDING: Final = 1e-6  # of an example's distance, in float32

# Of inputs and labels of a block of images, with their numbers among the test images and the place of the first.
Attack: TypeAlias = Callable[[Tensor, Tensor, NDArray[np.int64], int], Crafted]


class OutsideBallError(TrainingError):
    """An example that was made elsewhere is none for this eps."""

    def __init__(self, image: int, away: float, eps: float) -> None:
        super().__init__(
            f"image {image}: the example given for it is {away:.3g} away, eps is {eps:.3g}; pixels lie in [0, 1]"
        )


def plan(
    victim: Victim, steps: Mapping[str, Any], noise: Noise, *, draws: int, restarts: int, every: int, images: int,
    votes: int, known: bool = False, source: str = "", before: Sequence[int] = (), among: int = 10_000,
) -> FullAccess:  # fmt: skip
    """The record of a measurement that has yet to be made.

    Args:
        victim: the network that is attacked.
        steps: of the attack, with at least `eps` and `iterations`; where it is not by `Steps`, `attack` names it.
        noise: that the network runs under.
        draws: votes a gradient.
        restarts: tries.
        every: every so many test images one is attacked.
        images: how many of these, at most.
        votes: fresh ones that judge; without noise one is enough.
        known: whether the attacker knows the noise's seed; then his votes are also those that judge.
        source: SHA-256 of another network whose gradients are used instead: a transfer attack.
        before: strides whose images come first, the coarsest first.
        among: number of all test images.
    """
    return FullAccess(
        model=victim.model, variant=victim.variant, sha256=victim.sha256, data_set=victim.data_set, steps=dict(steps),
        restarts=restarts, noise=noise.kind, sigma=noise.sigma, seed=noise.seed, draws=draws, known=known,
        source=source, examined=bool(source), every=every, before=tuple(before), among=among, images=images,
        votes=draws if known else (votes if noise.sigma > 0 else 1), commit=git_commit(), versions=versions(),
    )  # fmt: skip


def target_of(record: FullAccess, victim: Victim) -> Target:
    """The victim under the record's noise, as its attacker knows it."""
    noise = Noise(record.noise, record.sigma, record.seed)
    return Target(victim.network, noise, draws=record.draws, known=record.known)


def by_steps(record: FullAccess, steps: Steps, target: Target, substitute: Target | None = None) -> Attack:
    """Examples by the steps of a gradient attack on the target; or on a substitute, and then examined by the target."""

    def of(inputs: Tensor, labels: Tensor, _: NDArray[np.int64], first: int) -> Crafted:
        attacked = substitute or target
        found = craft(
            attacked, steps, inputs, labels, restarts=record.restarts, seed=record.seed, first_input=first
        )  # fmt: skip
        return found if substitute is None else examined(target, found.inputs, labels, first)

    return of


def given(examples: Mapping[int, NDArray[np.float32]], target: Target, eps: float) -> Attack:
    """Examples that were made elsewhere, by the number of the test image that each starts from.

    What it gives raises `OutsideBallError` where an example is further than `eps` away, or outside the pixel range.
    """

    def of(inputs: Tensor, labels: Tensor, chosen: NDArray[np.int64], first: int) -> Crafted:
        found = torch.from_numpy(np.stack([examples[int(image)] for image in chosen])).to(inputs.device)
        away = (found - inputs).abs().flatten(1).amax(dim=1)
        if float(away.max()) > eps + ROUNDING or float(found.min()) < LOWEST or float(found.max()) > HIGHEST:
            raise OutsideBallError(int(chosen[int(away.argmax())]), float(away.max()), eps)
        return examined(target, found, labels, first)

    return of


def measure(planned: FullAccess, path: Path, victim: Victim, test: Examples, attack: Attack) -> FullAccess:
    """Attack and judge what the record lacks, `BLOCK` images at a time, where the network is; returns the whole record.

    More images may be planned than when the record was begun.

    Raises:
        AttackRecordError: the file is of another measurement.
    """
    record = started(planned, path, TOLD).model_copy(update={"images": planned.images})
    target = target_of(record, victim)
    chosen = np.array([image for image in record.planned if image < len(test)])
    device = next(victim.network.parameters()).device
    while len(record.attacked) < len(chosen):
        first = len(record.attacked)
        block = chosen[first : first + BLOCK]
        inputs = torch.from_numpy(test.values(block)).to(device)
        labels = torch.from_numpy(test.labels[block].astype(np.int64)).to(device)
        record = _with_block(record, target, inputs, attack(inputs, labels, block, first), labels, first)
        record.write(path)
    return record


def _with_block(
    record: FullAccess, target: Target, inputs: Tensor, found: Crafted, labels: Tensor, first: int
) -> FullAccess:
    before = judged(target, inputs, record, first)
    after = judged(target, found.inputs, record, first)
    truth = labels.cpu().numpy()
    right, decided = outcomes(after, truth)
    natural_right, natural_decided = outcomes(before, truth)
    by_votes = dict(record.by_votes)
    for count in COUNTS:
        if count <= record.votes:
            right_of_first = outcomes(after[:, :count], truth)[1].tolist()
            by_votes[count] = by_votes.get(count, "") + Outcome().with_more([], right_of_first).decided
    kept = [round((1 - float(share)) * record.draws) for share in found.wrong]
    return record.model_copy(
        update={
            "judged": record.judged + "".join(f"{count:02x}" for count in kept),
            "natural": record.natural.with_more(_counts(natural_right), natural_decided.tolist()),
            "attacked": record.attacked.with_more(_counts(right), decided.tolist()),
            "by_votes": by_votes,
        }
    )


@torch.no_grad()
def judged(target: Target, inputs: Tensor, record: FullAccess, first: int) -> np.ndarray:
    """Logits float32 [n, votes, classes] of the votes that judge; of a known seed, the attacker's own votes."""
    fresh = Target(target.network, Noise(record.noise, record.sigma, record.seed + FRESH_SEED), draws=record.draws)
    voter = target if record.known else fresh
    parts = [
        voter.logits(inputs, min(VOTES_AT_ONCE, record.votes - vote), vote, first)
        for vote in range(0, record.votes, VOTES_AT_ONCE)
    ]
    return np.asarray(torch.cat(parts, dim=1).cpu().numpy())


def _counts(right: np.ndarray) -> Sequence[int]:
    return [int(count) for count in right.sum(axis=1)]
