from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from noisevote.evaluation.results import Measured
from noisevote.evaluation.scores import Scores, group_tally
from noisevote.voting.decision import leaders
from noisevote.voting.tally import ONE, Ballots, ballots

Votes = NDArray[np.int64]  # [images, votes]
Probabilities = NDArray[np.float64]  # [images, votes, classes]


def cast(votes: Votes, probabilities: Probabilities) -> Ballots:
    """The same as ballots, the votes of an image one after another."""
    fixed_point = np.rint(probabilities.reshape(votes.size, -1) * ONE).astype(np.int64)
    return Ballots(votes.reshape(-1), fixed_point, np.ones(votes.size, np.bool_), fixed_point.astype(np.float32))


def measured(votes: Votes, probabilities: Probabilities, labels: list[int]) -> dict[int, Measured]:
    """Accuracies by number of votes."""
    scores = Scores(votes.shape[1])
    scores.add(cast(votes, probabilities), np.array(labels))
    return {found.votes: found for found in scores.measured()}


def slow_decision(votes: list[int], probabilities: list[list[float]]) -> int:
    """The decision rule word by word: mode, then larger mean probability, then lower index."""
    histogram = Counter(votes)
    best: tuple[int, float, int] | None = None
    for label in range(len(probabilities[0])):
        mean = float(np.mean([row[label] for row in probabilities]))
        candidate = (histogram[label], mean, -label)
        best = candidate if best is None else max(best, candidate)
    assert best is not None
    return -best[2]


@st.composite
def tied_votes(draw: st.DrawFn) -> tuple[Votes, Probabilities]:
    """Votes and probabilities with many ties: few classes, few distinct (binary, exactly averaged) probabilities."""
    images, votes, classes = draw(st.integers(1, 4)), draw(st.integers(1, 8)), draw(st.integers(2, 4))
    label = st.integers(0, classes - 1)
    share = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    labels = [[draw(label) for _ in range(votes)] for _ in range(images)]
    shares = [[[draw(share) for _ in range(classes)] for _ in range(votes)] for _ in range(images)]
    return np.array(labels), np.array(shares)


@given(tied_votes())
def test_decisions_follow_the_rule(ballot: tuple[Votes, Probabilities]) -> None:
    """Groups of every size decide by the rule written out, ties in votes and in mean probability included."""
    votes, probabilities = ballot
    passes = votes.shape[1]
    for count in range(1, passes + 1):
        groups = [slice(start, start + count) for start in range(0, passes - count + 1, count)]
        expected = [
            slow_decision(votes[image, group].tolist(), probabilities[image, group].tolist())
            for image in range(len(votes))
            for group in groups
        ]
        assert leaders(group_tally(cast(votes, probabilities), passes, count)).tolist() == expected


def test_accuracies_are_means_over_disjoint_groups() -> None:
    """Four votes give four single runs, two pairs and one group of three, each with its mean and deviation."""
    votes = np.array([[0, 1, 1, 1], [1, 0, 1, 1]])
    found = measured(votes, np.eye(2)[votes], labels=[1, 1])
    assert {count: (m.accuracy, m.groups) for count, m in found.items()} == {1: (0.75, 4), 2: (0.5, 2), 3: (1.0, 1)}
    assert found[1].spread == pytest.approx(np.std([0.5, 0.5, 1, 1], ddof=1))
    assert found[3].spread is None


def test_soft_decisions_are_those_of_the_mean_probability() -> None:
    """Two unsure votes against one that is sure: the mode has the two, the mean probability the one."""
    probabilities = np.array([[[0.6, 0.4], [0.6, 0.4], [0.0, 1.0]]])
    found = measured(probabilities.argmax(axis=2), probabilities, labels=[1])
    assert (found[3].accuracy, found[3].soft_accuracy) == (0.0, 1.0)
    assert found[1].soft_accuracy == found[1].accuracy == pytest.approx(1 / 3)


def test_images_may_come_in_any_parts() -> None:
    """Scores that saw the images a few at a time are those that saw them all at once."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(30, 20, 5)).astype(np.float32)
    labels = generator.integers(0, 5, 30)
    whole, parts = Scores(20), Scores(20)
    whole.add(ballots(logits.reshape(-1, 5)), labels)
    for chosen in (slice(0, 1), slice(1, 8), slice(8, 30)):
        parts.add(ballots(logits[chosen].reshape(-1, 5)), labels[chosen])
    assert parts.measured() == whole.measured()
    assert [found.votes for found in whole.measured()] == [1, 2, 3, 5, 10, 20]
