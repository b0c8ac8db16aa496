"""An answer's votes, cast once more from the published file, as the service casts and counts them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from noisevote.evaluation.votes_on import Runs, VotesOn
from noisevote.noise_op.contract import NoiseKind, sigma_row
from noisevote.voting.decision import decide
from noisevote.voting.stopping import Confidence, Exact, Fixed, StopRule
from noisevote.voting.tally import ballots, count_all, empty_tally

SEEDS: Final = 2**64


@dataclass(frozen=True)
class VotesAsked:
    """What determines the votes of an answer, beside the file and the inputs: see docs/api.md for each."""

    seed: int
    first_vote: int
    sigma: float
    noise: NoiseKind
    votes: int
    reads: int
    rule: StopRule
    alpha: float


def rule_named(name: str, delta: float | None) -> StopRule:
    """A stopping rule, as answers name it."""
    rules: dict[str, StopRule] = {"fixed": Fixed(), "exact": Exact()}
    return rules[name] if name in rules else Confidence(0.05 if delta is None else delta)


def recast(
    asked: VotesAsked, inputs: NDArray[np.float32], session: Runs, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Cast the votes on each of the inputs float32 [n, *shape].

    Returns:
        The predictions of an answer, with each vote.
    """
    sigma = sigma_row(asked.noise, asked.sigma, asked.reads)
    return [
        _predict(asked, VotesOn(session, example, sigma, (asked.seed + number) % SEEDS), classes)
        for number, example in enumerate(inputs)
    ]


def _predict(asked: VotesAsked, cast: VotesOn, classes: Sequence[str]) -> dict[str, Any]:
    tally = empty_tally(1, len(classes))
    logits = np.zeros((0, len(classes)), np.float32)
    while more := int(asked.rule.more(tally.histogram, asked.votes)[0]):
        for found in cast.logits(asked.first_vote + len(logits), more):
            count_all(tally, ballots(found))
            logits = np.concatenate([logits, found])
    decisions = decide(tally, asked.alpha)
    index = int(decisions.index[0])
    indices = logits.argmax(axis=1).tolist()
    return {
        "label": classes[index],
        "index": index,
        "histogram": tally.histogram[0].tolist(),
        "votes_used": len(logits),
        "vote_share": float(decisions.vote_share[0]),
        "lower_bound": float(decisions.lower_bound[0]),
        "abstain": bool(decisions.abstain[0]),
        "complete": True,
        "stopped_by": "rule" if asked.rule.met(tally.histogram, asked.votes)[0] else "budget",
        "mean_probabilities": tally.mean_probabilities()[0].tolist(),
        "votes": [
            {"vote": asked.first_vote + place, "label": classes[indices[place]], "index": indices[place], "logits": row}
            for place, row in enumerate(logits.tolist())
        ],
    }
