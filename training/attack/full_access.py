"""Attacks with full access, measured: worst examples are chosen on some votes, and judged by others.

Were both the same votes, an image that only had unlucky noise would count as attacked.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.provenance import git_commit, versions
from noisevote.training.attack.craft import Crafted, craft
from noisevote.training.attack.records import FullAccess, Outcome, started
from noisevote.training.attack.steps import Steps
from noisevote.training.attack.target import Noise, Target
from noisevote.training.attack.transfer_votes import outcomes
from noisevote.training.attack.victim import Victim

BLOCK: Final = 20  # images between two writes of a record
FRESH_SEED: Final = 2**40  # added to the noise's seed: the votes that judge are of other draws than the attack's
VOTES_AT_ONCE: Final = 20
COUNTS: Final = (1, 5, 20, 100)  # numbers of votes whose decisions are kept
TOLD: Final = (
    "model", "variant", "sha256", "steps", "restarts", "noise", "sigma", "seed", "draws", "known", "source", "every",
    "images", "votes",
)  # fmt: skip


def plan(
    victim: Victim, steps: Steps, noise: Noise, *, draws: int, restarts: int, every: int, images: int, votes: int,
    known: bool = False, source: Victim | None = None,
) -> FullAccess:  # fmt: skip
    """The record of a measurement that has yet to be made.

    Args:
        victim: the network that is attacked.
        steps: of the attack.
        noise: that the network runs under.
        draws: votes a gradient.
        restarts: tries.
        every: every so many test images one is attacked.
        images: how many of these, at most.
        votes: fresh ones that judge; without noise one is enough.
        known: whether the attacker knows the noise's seed; then his votes are also those that judge.
        source: another network whose gradients are used instead: a transfer attack.
    """
    return FullAccess(
        model=victim.model, variant=victim.variant, sha256=victim.sha256, data_set=victim.data_set,
        steps=asdict(steps), restarts=restarts, noise=noise.kind, sigma=noise.sigma, seed=noise.seed, draws=draws,
        known=known, source="" if source is None else source.sha256, every=every, images=images,
        votes=draws if known else (votes if noise.sigma > 0 else 1), commit=git_commit(), versions=versions(),
    )  # fmt: skip


def measure(
    planned: FullAccess, path: Path, victim: Victim, steps: Steps, test: Examples, source: Victim | None = None
) -> FullAccess:
    """Attack and judge what the record lacks, `BLOCK` images at a time; returns the whole record.

    Raises:
        AttackRecordError: the file is of another measurement.
    """
    record = started(planned, path, TOLD)
    noise = Noise(record.noise, record.sigma, record.seed)
    target = Target(victim.network, noise, draws=record.draws, known=record.known)
    attacked = target if source is None else Target(source.network, draws=1)
    chosen = np.arange(0, len(test), record.every)[: record.images]
    while len(record.attacked) < len(chosen):
        first = len(record.attacked)
        block = chosen[first : first + BLOCK]
        inputs = torch.from_numpy(test.values(block))
        labels = torch.from_numpy(test.labels[block].astype(np.int64))
        found = craft(attacked, steps, inputs, labels, restarts=record.restarts, seed=record.seed, first_input=first)
        record = _with_block(record, target, inputs, found, labels, first)
        record.write(path)
    return record


def _with_block(
    record: FullAccess, target: Target, inputs: Tensor, found: Crafted, labels: Tensor, first: int
) -> FullAccess:
    before = judged(target, inputs, record, first)
    after = judged(target, found.inputs, record, first)
    truth = labels.numpy()
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
    return np.asarray(torch.cat(parts, dim=1).numpy())


def _counts(right: np.ndarray) -> Sequence[int]:
    return [int(count) for count in right.sum(axis=1)]
