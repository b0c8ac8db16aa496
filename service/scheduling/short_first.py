"""Which waiting requests are of few rows, and when those are cut for themselves.

A short request that shares a batch with longer ones waits for all of their rows; alone it is over in the time of its
own. So where both wait, short ones go first: shortest remaining work, by which the mean of all waiting times is least
(Schrage 1968). That alone would starve the long ones, so it holds for every other batch.
"""

from collections.abc import Collection, Mapping
from typing import Final

from noisevote.engine.session_key import SessionKey
from noisevote.service.scheduling.progress import Progress
from noisevote.service.scheduling.turns import Turns

# A request of at most so many rows is short: in a batch of their own they take up to a tenth longer than among others
# (mnist-cnn), and at most every other batch is such a one. The last rows of a longer one are not short: it has waited
# for all of its others, and a small batch costs everybody more than it gains.
SHORT_ROWS: Final = 4


class ShortWork:
    """The short ones among the requests that wait, by session. Not `enabled`, it knows of none."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._most = SHORT_ROWS if enabled else 0
        self._of: dict[SessionKey, dict[Progress, None]] = {}
        self._first = True  # the next batch may be of short ones alone

    def of(self, session: SessionKey) -> Collection[Progress]:
        """Those of a session, in the order in which they became short."""
        return self._of.get(session, ())

    def note(self, progress: Progress) -> None:
        """Look at a request that began to wait, or of which rows were handed out."""
        if progress.wanted and progress.request.rows <= self._most:
            self._of.setdefault(progress.request.session, {})[progress] = None
        else:
            self.leave(progress)

    def leave(self, progress: Progress) -> None:
        """Forget a request. An unknown one is no error."""
        session = progress.request.session
        short = self._of.get(session)
        if short is not None:
            short.pop(progress, None)
            if not short:
                del self._of[session]

    def turn(self, turns: Mapping[SessionKey, Turns]) -> SessionKey | None:
        """The session whose short requests are the next batch; None: it is cut by turns.

        It is so right after another batch of short ones, and where there are no longer ones to wait for.
        """
        if not self._of or not self._first:
            return None
        if sum(map(len, turns.values())) == sum(map(len, self._of.values())):
            return None
        return next(session for session in turns if session in self._of)

    def allot(self, session: SessionKey, turns: Turns, max_rows: int) -> dict[Progress, int]:
        """Allot up to `max_rows` rows to the short requests of a session; who gets all leaves.

        Fewest rows come first, and of equal ones that which became short first.
        """
        self._first = False
        allotted: dict[Progress, int] = {}
        room = max_rows
        for progress in sorted(self._of[session], key=lambda each: each.wanted):
            allotted[progress] = rows = min(room, progress.wanted)
            room -= rows
            if rows == progress.wanted:
                turns.leave(progress)
            if not room:
                break
        return allotted

    def wait(self) -> None:
        """Note that a batch was cut by turns: the next one may be of short requests again."""
        self._first = True
