"""A published file asked about a transfer set through ONNX Runtime with the noise operator, as the service asks it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from noisevote.evaluation.engine import Engine
from noisevote.evaluation.examples import Examples
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.provenance import git_commit, versions
from noisevote.evaluation.scores import group_tally
from noisevote.evaluation.votes import cast_logits
from noisevote.noise_op.contract import NoiseKind
from noisevote.noise_op.library import load_kernel
from noisevote.training.attack.records import Outcome, TransferVotes, Votes, started
from noisevote.voting.decision import leaders
from noisevote.voting.tally import ballots

BLOCK: Final = 250  # images between two writes of a record
TOLD: Final = ("set", "model", "variant", "sha256", "noise", "seed")


class Asked:
    """One file's votes about a set, cast block by block and kept after each."""

    def __init__(self, path: Path, fresh: TransferVotes, engine: Engine, votes: int) -> None:
        self.path = path
        self.record = started(fresh, path, TOLD)
        self.engine = engine
        self.votes = votes

    def ask(self, inputs: str, examples: Examples, sigma: float, upto: int) -> int:
        """Cast the votes that are missing of the first `upto` examples at a sigma; returns how many were cast."""
        cell = self.record.cell(inputs, sigma)
        passes = 1 if sigma == 0 else self.votes
        cell = cell or Votes(inputs=inputs, sigma=sigma, votes=passes, runs=(0,) * passes, outcome=Outcome())
        first, upto = len(cell.outcome), min(upto, len(examples))
        if first >= upto:
            return 0
        some = Examples(examples.inputs[first:upto], examples.labels[first:upto])
        plan = Plan((self.record.noise,), (sigma,), passes, self.record.seed + first)
        logits = cast_logits(self.engine, some, (self.record.noise, sigma), plan)
        right, decided = outcomes(logits, some.labels)
        runs = tuple(int(run) for run in np.array(cell.runs) + right.sum(axis=0))
        outcome = cell.outcome.with_more(right.sum(axis=1).tolist(), decided.tolist())
        self.record = self.record.with_cell(cell.model_copy(update={"runs": runs, "outcome": outcome}))
        return passes * len(some)

    def keep(self) -> None:
        """Write the record."""
        self.record.write(self.path)


def outcomes(logits: NDArray[np.float32], labels: NDArray[np.integer[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Which votes and which decisions are right: bool [images, votes] and bool [images].

    Args:
        logits: float32 [images, votes, classes].
        labels: int [images].
    """
    votes = logits.shape[1]
    cast = ballots(logits.reshape(-1, logits.shape[2]))
    decided = leaders(group_tally(cast, votes, votes)) == labels
    return cast.classes.reshape(-1, votes) == labels[:, None], decided


def fresh_record(
    made: dict[str, Any], model: str, variant: str, sha256: str, *, noise: NoiseKind = "multiplicative", seed: int = 0
) -> TransferVotes:
    """A record without votes; `made` is what `read_set` tells of the set."""
    kernel = load_kernel()
    return TransferVotes(
        set=made, model=model, variant=variant, sha256=sha256, noise=noise, seed=seed, commit=git_commit(),
        versions=versions(), isa=kernel.isa if kernel else None,
    )  # fmt: skip


def ask_all(
    asked: Sequence[Asked], natural: Examples, adversarial: Examples, sigmas: Sequence[float],
    told: Callable[[int], Any], images: int | None = None,
) -> None:  # fmt: skip
    """Cast all votes that are missing, a block of images of every file at every sigma before the next block.

    So a record that is not complete is so for the same images everywhere, and they can be compared.

    Args:
        asked: the files.
        natural: the images that the set starts from; they are asked about at sigma 0.
        adversarial: the set.
        sigmas: of the noise.
        told: is told how many votes were cast.
        images: the first so many only.
    """
    total = min(images or len(adversarial), len(adversarial))
    for upto in range(BLOCK, total + BLOCK, BLOCK):
        for one in asked:
            cast = one.ask("natural", natural, 0.0, min(upto, total))
            cast += sum(one.ask("adversarial", adversarial, sigma, min(upto, total)) for sigma in sigmas)
            if cast:
                one.keep()
                told(cast)
