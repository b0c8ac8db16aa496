"""Votes as bars of text."""

from collections.abc import Iterator, Sequence
from typing import Final

from noisevote.client import Prediction

# A full cell, and what is shorter in eighths of one.
BLOCKS: Final = " ▏▎▍▌▋▊▉█"
LONGEST_NAME: Final = 24
# Of many classes those with most votes are shown.
MOST_CLASSES: Final = 12
WIDEST: Final = 60


def bar(share: float, width: int, *, fine: bool = True) -> str:
    """A share 0 … 1 of `width` cells; `fine` in eighths of a cell, else in whole ones of plain ASCII."""
    if not fine:
        return ("#" * round(share * width)).ljust(width)
    eighths = round(share * width * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (BLOCKS[rest] if rest else "")).ljust(width)


def bars(prediction: Prediction, classes: Sequence[str], columns: int, *, fine: bool = True) -> list[str]:
    """A line for each class that the answer shows: its name, a bar of its share of the votes, and their number."""
    votes = _votes(prediction)
    if not votes:
        return []
    total = max(1, sum(prediction.histogram or ()) or prediction.votes_used or 0)
    names = {index: shortened(classes[index]) for index in votes}
    digits = len(str(total))
    indent = max(map(len, names.values()))
    width = max(8, min(WIDEST, columns - indent - digits - 6))
    return [
        f"  {names[index]:>{indent}} {bar(count / total, width, fine=fine)} {count:>{digits}}"
        for index, count in votes.items()
    ]


def _votes(prediction: Prediction) -> dict[int, int]:
    """Votes of the classes to be shown, by their numbers."""
    if prediction.top is not None:
        return {each.index: each.votes for each in prediction.top}
    votes = dict(enumerate(prediction.histogram or ()))
    if len(votes) <= MOST_CLASSES:
        return votes
    leading = sorted(votes, key=lambda index: (-votes[index], index))[:MOST_CLASSES]
    return {index: votes[index] for index in leading if votes[index]}


def verdict(prediction: Prediction, alpha: float) -> str:
    """The decision on an input and how far the votes carry it, in one line."""
    return ", ".join(_verdict(prediction, alpha))


def _verdict(prediction: Prediction, alpha: float) -> Iterator[str]:
    if prediction.votes_used is None or prediction.vote_share is None:
        yield prediction.label
        return
    votes = round(prediction.vote_share * prediction.votes_used)
    yield f"{prediction.label}: {votes} of {prediction.votes_used} votes ({prediction.vote_share:.1%})"
    if prediction.lower_bound is not None:
        yield f"at least {prediction.lower_bound:.1%} at confidence {1 - alpha:g}"
    if prediction.abstain:
        yield "too close to call (abstain)"
    if prediction.stopped_by == "deadline":
        yield "cut by the deadline"


def shortened(name: str) -> str:
    """A class's name as far as a line has room for it."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
