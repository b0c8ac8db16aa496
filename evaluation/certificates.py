"""Certificates recomputed from the published file: the votes, their counts, and the radius that follows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from noisevote.engine.certificate_seed import certificate_seed
from noisevote.evaluation.votes_on import Runs, VotesOn
from noisevote.model_store.manifest import Manifest, Variant
from noisevote.noise_op.contract import sigma_row
from noisevote.voting.certification import Certificate, certificate, rule_of
from noisevote.voting.decision import leaders
from noisevote.voting.tally import Tally, ballots, count_all, empty_tally

OPERATOR: Final = 1
LARGEST_FIGURE_ERROR: Final = 1e-12  # of figures that pass through decimal digits


class AnsweredCertificate(BaseModel):
    """One certificate of an answer; see `/docs` of the service for its keys."""

    model_config = ConfigDict(frozen=True)

    index: int | None
    radius: float
    abstain: bool
    lower_bound: float
    count: int
    votes_used: Annotated[int, Field(ge=0)]
    first_vote: int
    seed: int
    stopped_by: Literal["radius", "refuted", "unreachable", "budget", "deadline"]


class CertifyAnswer(BaseModel):
    """What of an answer of `…/certify` is verified. Times are not."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    variant: str
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    operator: int
    sigma: Annotated[float, Field(gt=0, le=10)]
    alpha: Annotated[float, Field(gt=0, lt=1)]
    n0: Annotated[int, Field(ge=1)]
    n: Annotated[int, Field(ge=1)]
    rule: Literal["fixed", "anytime"]
    radius_asked: Annotated[float, Field(gt=0)] | None
    nonce: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    certificates: list[AnsweredCertificate]


@dataclass(frozen=True)
class Difference:
    """A key of an answer that was recomputed as another value; `key` names it with its place."""

    key: str
    answered: object
    recomputed: object

    def __str__(self) -> str:
        return f"{self.key}: {self.answered!r} was answered, {self.recomputed!r} recomputed"


def differences_from_manifest(answer: CertifyAnswer, manifest: Manifest, variant: Variant) -> list[Difference]:
    """What an answer says of the model that its manifest does not."""
    sigma = None if variant.certifies is None else float(np.float32(variant.certifies))
    stated = {"sha256": variant.sha256, "operator": manifest.operator_version(variant), "sigma": sigma}
    found = [Difference(key, getattr(answer, key), value) for key, value in stated.items()]
    return [each for each in found if each.answered != each.recomputed] + (
        [] if answer.operator == OPERATOR else [Difference("operator", answer.operator, OPERATOR)]
    )


def differences(
    answer: CertifyAnswer, inputs: NDArray[np.float32], session: Runs, classes: int
) -> Iterator[list[Difference]]:
    """Recompute each certificate of an answer.

    Args:
        answer: what was answered.
        inputs: the inputs that were certified, float32 [n, *shape].
        session: the file.
        classes: of its outputs.

    Yields:
        What differs, input by input; nothing where all is as it was answered.
    """
    for number, (answered, example) in enumerate(zip(answer.certificates, inputs, strict=True)):
        recomputed = _recompute(answer, answered, example, session, classes)
        said = answered.model_dump(include=set(recomputed))
        yield [
            Difference(f"certificates[{number}].{key}", said[key], value)
            for key, value in recomputed.items()
            if not _equal(said[key], value)
        ]


def _recompute(
    answer: CertifyAnswer, answered: AnsweredCertificate, example: NDArray[np.float32], session: Runs, classes: int
) -> dict[str, Any]:
    """The values of a certificate's keys. Only at a deadline is the number of votes taken from the answer."""
    seed = certificate_seed(answer.sha256, example, answer.nonce)
    rule = rule_of(answer.rule, answer.n, answer.alpha, answer.sigma, answer.radius_asked)
    late = answered.stopped_by == "deadline"
    unselected = late and answered.index is None
    cast = VotesOn(session, example, sigma_row("additive", answer.sigma), seed)
    index = None if unselected else int(leaders(_tally(cast, 0, answer.n0, classes))[0])
    count = trials = 0
    while index is not None and (more := rule.more(count, trials)):
        more = min(more, answered.votes_used - trials) if late else more
        if not more:
            break
        count += int(_tally(cast, answer.n0 + trials, more, classes).histogram[0, index])
        trials += more
    found: Certificate = certificate(rule, answer.sigma, answer.radius_asked, count, trials)
    return {
        "seed": seed,
        "first_vote": answer.n0,
        "index": index,
        "count": count,
        "votes_used": trials,
        "lower_bound": found.lower_bound,
        "radius": found.radius,
        "abstain": found.abstain,
        "stopped_by": "deadline" if late else rule.met(count, trials),
    }


def _tally(cast: VotesOn, first: int, votes: int, classes: int) -> Tally:
    """Votes `first` … `first` + `votes` − 1, counted."""
    total = empty_tally(1, classes)
    for logits in cast.logits(first, votes):
        count_all(total, ballots(logits))
    return total


def _equal(answered: object, recomputed: object) -> bool:
    if isinstance(answered, float) and isinstance(recomputed, float):
        return abs(answered - recomputed) <= LARGEST_FIGURE_ERROR * max(1.0, abs(recomputed))
    return answered == recomputed


def summary(answer: CertifyAnswer, found: Sequence[Sequence[Difference]]) -> Mapping[str, Any]:
    """What a verification found, for programs."""
    return {
        "model": answer.model,
        "version": answer.version,
        "variant": answer.variant,
        "verified": not any(found),
        "certificates": len(answer.certificates),
        "differences": [vars(each) for differing in found for each in differing],
    }
