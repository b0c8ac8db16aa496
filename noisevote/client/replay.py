"""Whether an answer's votes are cast once more: what to ask, and how what comes back compares.

Noise is equal on all processors, convolutions are not: an instruction set of another width adds in another order. So a
complete answer repeats vote for vote on the same instruction set, and elsewhere but for votes between whose two
largest logits there is less than `CLOSE` of the logits' scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from noisevote.client.answers import Answer, Prediction
from noisevote.client.errors import UnrepeatableError
from noisevote.client.options import PredictOptions, Returns

CLOSE: Final = 1e-4

Outcome = Literal["same to the last bit", "same votes", "same but for close votes", "different"]


@dataclass(frozen=True)
class CloseVote:
    """A vote whose class could be another on another instruction set.

    `margin` is what lies between its two largest logits, as a share of the largest absolute logit of all votes on its
    input; `index` is what it is for here.
    """

    input: int
    vote: int
    index: int
    margin: float


@dataclass(frozen=True)
class Difference:
    """A figure of the answer that came out otherwise; `key` names it with its place."""

    key: str
    answered: object
    repeated: object

    def __str__(self) -> str:
        return f"{self.key}: {self.answered!r} was answered, {self.repeated!r} repeated"


@dataclass(frozen=True)
class Replay:
    """What came of repeating an answer.

    Attributes:
        outcome: how it compares.
        differences: every figure that is not the same.
        close: votes that may be for another class elsewhere; None where votes are not shown.
        repeated: the answer of the second time.
    """

    outcome: Outcome
    differences: tuple[Difference, ...]
    close: tuple[CloseVote, ...] | None
    repeated: Answer

    @property
    def succeeded(self) -> bool:
        """The answer repeats, within what can be promised."""
        return self.outcome != "different"


def refuse_unrepeatable(answer: Answer) -> None:
    """Nothing, where an answer determines its votes.

    Raises:
        UnrepeatableError: it does not.
    """
    if answer.seed is None:
        raise UnrepeatableError("seed: the answer shows labels alone, and not the seed that was drawn for it")
    for number, prediction in enumerate(answer.predictions):
        if prediction.complete is False:
            counted = f"{prediction.votes_used} of at most {answer.votes} votes"
            raise UnrepeatableError(
                f"predictions[{number}]: a deadline cut it after {counted}; which were counted by then depended on "
                "time, so it cannot be repeated"
            )


def shown(answer: Answer) -> Returns:
    """How much of the votes an answer shows."""
    prediction = answer.predictions[0]
    if prediction.votes is not None:
        return "votes"
    if prediction.mean_probabilities is not None:
        return "probabilities"
    if prediction.top is not None:  # of all classes, so that those can be looked up
        return "histogram" if prediction.top[0].mean_probability is None else "probabilities"
    return "label" if prediction.histogram is None else "histogram"


def repeating(answer: Answer) -> tuple[PredictOptions, PredictOptions]:
    """What to ask for an answer's votes: with each vote shown, and with no more shown than the answer does.

    Raises:
        UnrepeatableError: the answer does not determine them.
    """
    refuse_unrepeatable(answer)
    options: PredictOptions = {
        "version": answer.version,
        "variant": answer.variant,
        "seed": answer.seed,
        "first_vote": answer.first_vote,
        "sigma": answer.sigma,
        "noise": answer.noise,
        "votes": answer.votes,
        "reads": answer.reads,
        "stop": answer.stop,
        "alpha": answer.alpha,
    }
    # Where labels alone are shown a policy may forbid to say so.
    less: PredictOptions = {} if shown(answer) == "label" else {"returns": shown(answer)}
    return {**options, "returns": "votes"}, {**options, **less}


def compared(answer: Answer, repeated: Answer) -> Replay:
    """Compare an answer with another of the same request.

    Raises:
        UnrepeatableError: the other is of another file, or of other inputs.
    """
    for key in ("model", "version", "variant", "sha256", "operator"):
        mine, other = getattr(answer, key), getattr(repeated, key)
        if mine != other:
            raise UnrepeatableError(f"{key}: {mine!r} answered, and {other!r} is what there is now")
    if len(answer.predictions) != len(repeated.predictions):
        raise UnrepeatableError(
            f"inputs: the answer is about {len(answer.predictions)}, and {len(repeated.predictions)} are given"
        )
    pairs = list(zip(answer.predictions, repeated.predictions, strict=True))
    differences = [each for number, pair in enumerate(pairs) for each in _differences(number, *pair)]
    close = None
    if all(prediction.votes is not None for prediction in repeated.predictions):
        close = tuple(each for number, (_, again) in enumerate(pairs) for each in _close(number, again))
    return Replay(_outcome(pairs, differences, close), tuple(differences), close, repeated)


def _differences(number: int, answered: Prediction, repeated: Prediction) -> Iterator[Difference]:
    """Every figure that both show and that is not the same."""
    for key, value in vars(answered).items():
        other = getattr(repeated, key)
        if key in {"votes", "input"} or value is None or other is None:
            continue
        if value != other:
            yield Difference(f"predictions[{number}].{key}", value, other)
    yield from _top_differences(number, answered, repeated)
    for mine, theirs in zip(answered.votes or (), repeated.votes or (), strict=False):
        place = f"predictions[{number}].votes[{mine.vote}]"
        if mine.index != theirs.index:
            yield Difference(f"{place}.index", mine.index, theirs.index)
        elif not _same_floats(mine.logits, theirs.logits):
            yield Difference(f"{place}.logits", mine.logits, theirs.logits)


def _top_differences(number: int, answered: Prediction, repeated: Prediction) -> Iterator[Difference]:
    """The same of the leading classes, which are looked up among all."""
    for leading in answered.top or ():
        place = f"predictions[{number}].top[{leading.label}]"
        votes, mean = repeated.histogram, repeated.mean_probabilities
        if votes is not None and votes[leading.index] != leading.votes:
            yield Difference(f"{place}.votes", leading.votes, votes[leading.index])
        if mean is not None and leading.mean_probability not in {None, mean[leading.index]}:
            yield Difference(f"{place}.mean_probability", leading.mean_probability, mean[leading.index])


def _same_floats(mine: tuple[float, ...], theirs: tuple[float, ...]) -> bool:
    """Whether these are the same float32, which can be written with more or fewer digits."""
    return np.array_equal(np.asarray(mine, np.float32), np.asarray(theirs, np.float32))


def _close(number: int, prediction: Prediction) -> Iterator[CloseVote]:
    logits = prediction.logits()
    for vote, margin in zip(prediction.votes or (), _margins(logits), strict=True):
        if margin < CLOSE:
            yield CloseVote(number, vote.vote, vote.index, float(margin))


def _margins(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """What lies between the two largest logits of each vote, float64 [votes], as a share of all logits' scale."""
    wide = logits.astype(np.float64)
    ordered = np.sort(wide, axis=1)
    scale = np.abs(wide).max(initial=0)
    return np.asarray((ordered[:, -1] - ordered[:, -2]) / (scale or 1.0))


def _outcome(
    pairs: list[tuple[Prediction, Prediction]], differences: list[Difference], close: tuple[CloseVote, ...] | None
) -> Outcome:
    if not differences:
        return "same to the last bit"
    if all(_same_votes(*pair) for pair in pairs):
        return "same votes"
    numbers = range(len(pairs))
    of_input = {number: [each for each in close or () if each.input == number] for number in numbers}
    explained = close is not None and all(_explained(*pair, of_input[number]) for number, pair in enumerate(pairs))
    return "same but for close votes" if explained else "different"


def _same_votes(answered: Prediction, repeated: Prediction) -> bool:
    """Whether the votes are for the same classes, as far as both show them."""
    if answered.votes is not None and repeated.votes is not None:
        return [(each.vote, each.index) for each in answered.votes] == [
            (each.vote, each.index) for each in repeated.votes
        ]
    if answered.histogram is not None and repeated.histogram is not None:
        return answered.histogram == repeated.histogram
    if answered.top is not None and repeated.histogram is not None:
        return all(repeated.histogram[each.index] == each.votes for each in answered.top)
    return answered.index == repeated.index


def _explained(answered: Prediction, repeated: Prediction, close: list[CloseVote]) -> bool:
    """Whether no more than the close votes of an input may be for other classes than were answered."""
    if _same_votes(answered, repeated):
        return True
    if answered.votes is not None and repeated.votes is not None and len(answered.votes) == len(repeated.votes):
        able = {each.vote for each in close}
        return all(
            mine.vote in able
            for mine, theirs in zip(answered.votes, repeated.votes, strict=True)
            if mine.index != theirs.index
        )
    if answered.histogram is None or repeated.histogram is None:
        return bool(close)
    moved = np.maximum(np.subtract(repeated.histogram, answered.histogram), 0)
    leaving = np.bincount([each.index for each in close], minlength=len(moved))
    return sum(answered.histogram) == sum(repeated.histogram) and bool((moved <= leaving).all())


def as_program(replay: Replay) -> dict[str, Any]:
    """What a replay found, for programs."""
    return {
        "repeats": replay.succeeded,
        "outcome": replay.outcome,
        "differences": [vars(each) for each in replay.differences],
        "close_votes": None if replay.close is None else [vars(each) for each in replay.close],
    }
