"""Right decisions counted, as votes come in: accuracies of the mode and of the mean probability over votes."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from noisevote.evaluation.results import Measured
from noisevote.voting.decision import leaders
from noisevote.voting.tally import Ballots, Tally

VOTE_COUNTS: Final = (1, 2, 3, 5, 10, 20, 50, 100)


class Scores:
    """How often groups of votes decide right, for each of `counts` votes that `passes` votes an image suffice for.

    The groups of so many votes are consecutive and disjoint, and what does not fill one is left out. Only counts are
    kept, so that memory does not grow with the images.
    """

    def __init__(self, passes: int, counts: tuple[int, ...] = VOTE_COUNTS) -> None:
        self._passes = passes
        self._images = 0
        groups = {count: passes // count for count in counts if count <= passes}
        self._right = {count: np.zeros(groups[count], np.int64) for count in groups}
        self._soft_right = {count: np.zeros(groups[count], np.int64) for count in groups}

    def add(self, cast: Ballots, labels: NDArray[np.integer[Any]]) -> None:
        """Count the votes of some images, the `passes` votes of an image one after another; labels [images]."""
        self._images += len(labels)
        for count in self._right:
            tally = group_tally(cast, self._passes, count)
            decided = leaders(tally).reshape(len(labels), -1)  # [images, groups]
            surest = tally.probabilities.argmax(axis=1).reshape(len(labels), -1)
            self._right[count] += (decided == labels[:, np.newaxis]).sum(axis=0)
            self._soft_right[count] += (surest == labels[:, np.newaxis]).sum(axis=0)

    def measured(self) -> tuple[Measured, ...]:
        """Accuracy at each number of votes; its spread where there are several groups."""
        return tuple(self._measured(count) for count in self._right)

    def _measured(self, count: int) -> Measured:
        accuracies = self._right[count] / self._images
        return Measured(
            votes=count,
            accuracy=float(np.mean(accuracies)),
            spread=float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
            groups=len(accuracies),
            soft_accuracy=float(np.mean(self._soft_right[count] / self._images)),
        )


def group_tally(cast: Ballots, passes: int, count: int) -> Tally:
    """The votes of each group of `count` consecutive ones of each image: groups of an image one after another."""
    groups, classes = passes // count, cast.probabilities.shape[1]
    voted = cast.classes[:, np.newaxis] == np.arange(classes)  # bool [rows, classes]
    return Tally(_sums(voted, passes, groups, count), _sums(cast.probabilities, passes, groups, count))


def _sums(values: NDArray[np.bool_] | NDArray[np.int64], passes: int, groups: int, count: int) -> NDArray[np.int64]:
    """Sums over the groups: [images × passes, classes] to int64 [images × groups, classes]."""
    grouped = values.reshape(-1, passes, values.shape[1])[:, : groups * count]
    return np.asarray(grouped.reshape(-1, count, values.shape[1]).sum(axis=1, dtype=np.int64))
