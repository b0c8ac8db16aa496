"""In which order the waiting requests of a session get rows, and how many at a time: weighted fair queueing.

Were all waiting requests served at once, each in proportion to its priority, virtual time would pass at the rate at
which priority 1 gets rows. By it each request has a time at which its next part would be ready, and the parts
are handed out in the order of these times (Demers, Keshav and Shenker 1989). So a request waits for about as many rows
of each other one as it asks for itself, and at most about PART_ROWS more.

What one batch can finish is not cut. Its rows share their input, and whoever asked for it has all of its votes at once;
cut into small shares, eight requests of 20 votes would be computed side by side and all be ready in the end.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from itertools import count
from typing import Final, Protocol

from noisevote.service.scheduling.progress import Progress

# Of a longer request so many rows are a part, in the order that parts are handed out in.
PART_ROWS: Final = 32
# Of a batch with more different inputs, too much goes into what their rows cannot share: the layers before the first
# noise, and cutting and counting. With 16 inputs instead of 8 in a batch of 16, a row of mnist-cnn took a tenth longer.
MOST_SHARING: Final = 8


class Turns(Protocol):
    """The requests of a session that wait for rows."""

    def __len__(self) -> int:
        """How many wait."""

    def __iter__(self) -> Iterator[Progress]:
        """Each of them."""

    def __contains__(self, progress: object) -> bool:
        """Whether it waits."""

    def join(self, progress: Progress) -> None:
        """Let a request wait that wants rows."""

    def leave(self, progress: Progress) -> None:
        """Let one wait no more."""

    def allot(self, rows: int, most: int) -> dict[Progress, int]:
        """Allot about `rows` rows, never more than `most`; who gets all it wants leaves."""


NewTurns = Callable[[], Turns]


class FairTurns:
    """Weighted fair queueing, as above."""

    def __init__(self) -> None:
        self._order: list[tuple[float, int, Progress]] = []  # by when the next part would be ready
        self._places: dict[Progress, tuple[float, int]] = {}  # the same, by request
        self._served: dict[Progress, float] = {}  # virtual time up to which it has got its rows
        self._priorities = 0
        self._now = 0.0
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Progress]:
        return (progress for *_, progress in self._order)

    def __contains__(self, progress: object) -> bool:
        return progress in self._places

    def join(self, progress: Progress) -> None:
        """Let a request wait, served up to now."""
        self._priorities += progress.request.priority
        self._place(progress, self._now, progress.wanted)

    def leave(self, progress: Progress) -> None:
        """Let a request wait no more."""
        self._priorities -= progress.request.priority
        self._displace(progress)

    def allot(self, rows: int, most: int) -> dict[Progress, int]:
        """Allot about `rows` rows: more, but not more than `most`, for a request that is no longer, if others wait too.

        Fewer are allotted where a part of another request would fill less than half of a batch.
        """
        longest = most if len(self) > 1 else rows
        priorities, allotted, given = self._priorities, dict[Progress, int](), 0
        while given < rows and self._order:
            progress = self._order[0][-1]
            wanted = progress.wanted - allotted.get(progress, 0)
            taken = self._part(progress, wanted, (rows, longest), given)
            if not taken:
                break
            allotted[progress] = allotted.get(progress, 0) + taken
            given += taken
            self._serve(progress, taken, wanted - taken)
        self._pass(given / priorities if priorities else 0.0)
        return allotted

    def _part(self, progress: Progress, wanted: int, bounds: tuple[int, int], given: int) -> int:
        """Rows for the request whose turn it is, in a batch that has `given` already; 0: it waits for the next one."""
        rows, longest = bounds
        if progress.anytime:  # some at a time, whenever it may be looked at
            return min(wanted, rows - given, max(1, rows // min(len(self), MOST_SHARING)))
        if given + wanted <= (longest if progress.request.rows <= longest else rows):
            return wanted
        return 0 if 2 * given >= rows else min(wanted, rows - given)

    def _serve(self, progress: Progress, taken: int, left: int) -> None:
        if left:
            served = self._served[progress] + taken / progress.request.priority
            self._displace(progress)
            self._place(progress, served, left)
        else:
            self.leave(progress)

    def _place(self, progress: Progress, served: float, wanted: int) -> None:
        self._served[progress] = served
        place = served + min(wanted, PART_ROWS) / progress.request.priority, next(self._numbers)
        self._places[progress] = place
        insort(self._order, (*place, progress))

    def _displace(self, progress: Progress) -> None:
        del self._order[bisect_left(self._order, self._places.pop(progress))]
        del self._served[progress]

    def _pass(self, time: float) -> None:
        """Let virtual time pass, and never be behind all who wait: who joins would be served alone until it is not."""
        self._now += time
        if self._order:
            self._now = max(self._now, self._order[0][0] - PART_ROWS)
