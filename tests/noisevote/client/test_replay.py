"""How two answers to one request compare."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from noisevote.client import AnalogCost, Answer, CastVote, Prediction, Stop, UnrepeatableError
from noisevote.client.replay import CLOSE, Replay, compared, refuse_unrepeatable, repeating

CLASSES = 3


def answer(*of_inputs: NDArray[np.float64], votes_shown: bool = True) -> Answer:
    """An answer whose inputs have votes of these logits, [votes, classes] each."""
    predictions = []
    for logits in of_inputs:
        indices = logits.argmax(axis=1)
        histogram = tuple(np.bincount(indices, minlength=CLASSES).tolist())
        votes = tuple(
            CastVote(number, str(index), int(index), tuple(row))
            for number, (index, row) in enumerate(zip(indices, logits.tolist(), strict=True))
        )
        index = int(np.argmax(histogram))
        predictions.append(
            Prediction(str(index), index, histogram, len(logits), complete=True, votes=votes if votes_shown else None)
        )
    cost = AnalogCost(1, 1, 1, 1)
    stop = Stop("fixed")
    return Answer("m", "1", "v", "ab", 1, 0, 1.0, "additive", 9, 1, stop, 0.05, tuple(predictions), cost, seed=1)


LOGITS = np.array([[3.0, 1, 0], [1, 2, 0], [2, 2 - 1e-4, 0], [0, 0, 4]])
FLIPPED = np.array([[3.0, 1, 0], [1, 2, 0], [2, 2 + 1e-4, 0], [0, 0, 4]])
FORGED = np.array([[3.0, 1, 0], [1, 2, 0], [2, 2 - 1e-4, 0], [4, 0, 0]])


@pytest.mark.parametrize("votes_shown", [True, False])
@pytest.mark.parametrize(
    ("first", "outcome"),
    [
        (LOGITS, "same to the last bit"),
        (LOGITS + 1e-7, "same votes"),
        (FLIPPED, "same but for close votes"),
        (FORGED, "different"),
    ],
)
def test_what_differs_is_weighed(first: NDArray[np.float64], outcome: str, votes_shown: bool) -> None:
    """Rounding leaves the votes; a close vote may be for another class, whose votes then are one more; others not."""
    found = compared(answer(first, votes_shown=votes_shown), answer(LOGITS))
    expected = outcome if votes_shown or outcome != "same votes" else "same to the last bit"
    assert found.outcome == expected
    assert found.succeeded == (outcome != "different")
    assert found.close is not None
    assert [(each.input, each.vote, each.index) for each in found.close] == [(0, 2, 0)]
    assert found.close[0].margin == pytest.approx(1e-4 / 4, rel=0.01)  # logits are float32
    assert bool(found.differences) == (found.outcome != "same to the last bit")


def test_without_votes_of_the_second_time_nothing_is_explained() -> None:
    """Which votes are close is then not known."""
    found = compared(answer(FLIPPED, votes_shown=False), answer(LOGITS, votes_shown=False))
    assert (found.outcome, found.close) == ("different", None)


def test_a_close_vote_of_one_input_explains_nothing_of_another() -> None:
    """Inputs are judged one by one."""
    assert compared(answer(LOGITS, FORGED), answer(LOGITS, LOGITS)).outcome == "different"
    assert compared(answer(FLIPPED, LOGITS), answer(LOGITS, LOGITS)).outcome == "same but for close votes"


@given(st.integers(0, 10**6), st.integers(1, 30), st.floats(0, 2e-4))
def test_rounding_never_makes_an_answer_different(seed: int, votes: int, error: float) -> None:
    """Logits that are off by less than half of what is close are always repeated, with votes shown or counted."""
    drawn = np.random.default_rng(seed)
    logits = drawn.integers(-3, 4, (votes, CLASSES)) + drawn.normal(0, 1e-4, (votes, CLASSES))
    scale = np.abs(logits).max()
    off = logits + drawn.uniform(-1, 1, logits.shape) * min(error, CLOSE / 2.01) * min(scale, 1)
    for shown in (True, False):
        found: Replay = compared(answer(off, votes_shown=shown), answer(logits))
        assert found.succeeded


def test_what_does_not_determine_votes_is_refused() -> None:
    """A seed that is not shown, and a deadline that cut the votes, by the input that it cut."""
    whole = answer(LOGITS, LOGITS)
    refuse_unrepeatable(whole)
    with pytest.raises(UnrepeatableError, match="seed"):
        refuse_unrepeatable(replace(whole, seed=None))
    cut = replace(whole.predictions[1], complete=False, votes_used=4)
    with pytest.raises(UnrepeatableError, match=r"predictions\[1\]: a deadline cut it after 4 of at most 9 votes"):
        repeating(replace(whole, predictions=(whole.predictions[0], cut)))
    for key in ("model", "version", "variant", "sha256", "operator"):
        with pytest.raises(UnrepeatableError, match=f"^{key}: "):
            compared(whole, replace(whole, **{key: 2}))  # type: ignore[arg-type]  # a value of no meaning
