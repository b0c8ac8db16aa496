"""What each caller may have at most: requests and votes a minute, votes that wait, and priority."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Final

from noisevote.service.callers import ANYBODY, Caller
from noisevote.service.errors import ForbiddenError, QuotaExceededError

if TYPE_CHECKING:
    from noisevote.service.prediction.minute import Minute

WINDOW_S: Final = 60
NOT_COUNTED: Final = nullcontext()


class QuotaBook:
    """Counts what callers have had, by their names. Belongs to one event loop."""

    def __init__(self) -> None:
        self._queued: Counter[str] = Counter()

    @cached_property
    def _minute(self) -> "Minute":
        """What was counted by the minute. What counts was imported where a key with such a quota was read."""
        from noisevote.service.prediction.minute import Minute  # noqa: PLC0415  # 2 MiB that few servers need

        return Minute()

    def count_request(self, caller: Caller) -> None:
        """Count a request.

        Raises:
            QuotaExceededError: one too many in this minute.
        """
        most = caller.quotas.requests_per_minute
        if most is None:
            return
        if (reset := self._minute.count_request(caller.name, most)) is not None:
            problem = f"it has had {most} in the last minute"
            raise QuotaExceededError(caller.name, "requests_per_minute", problem, _whole_seconds(reset - time.time()))

    def check(self, caller: Caller, votes: int, priority: int) -> None:
        """Refuse a request for so many votes in all at this priority; counts nothing.

        Raises:
            ForbiddenError: it is more than the caller may ever have.
            QuotaExceededError: it is more than it may have now.
        """
        if caller is ANYBODY:  # who has no quotas
            return
        quotas = caller.quotas
        for name, asked, most in (
            ("priority", priority, quotas.priority),
            ("queued_votes", votes, quotas.queued_votes),
            ("votes_per_minute", votes, quotas.votes_per_minute),
        ):
            if most is not None and asked > most:
                raise ForbiddenError(f"key {caller.name!r}: {name}: {asked} is more than {most}, the most that it may")
        if quotas.queued_votes is not None and self._queued[caller.name] + votes > quotas.queued_votes:
            problem = f"{self._queued[caller.name]} wait; {votes} more would be above {quotas.queued_votes}"
            raise QuotaExceededError(caller.name, "queued_votes", problem, 1)
        if quotas.votes_per_minute is not None:
            self._check_votes(caller.name, votes, quotas.votes_per_minute)

    def queued(self, caller: Caller, votes: int) -> AbstractContextManager[None]:
        """Count the votes of an accepted request: for this minute, and as waiting as long as the context lasts."""
        return NOT_COUNTED if caller is ANYBODY else self._counted(caller, votes)

    @contextmanager
    def _counted(self, caller: Caller, votes: int) -> Iterator[None]:
        if caller.quotas.votes_per_minute is not None:
            self._minute.count_votes(caller.name, votes, caller.quotas.votes_per_minute)
        self._queued[caller.name] += votes
        try:
            yield
        finally:
            self._queued[caller.name] -= votes

    def _check_votes(self, name: str, votes: int, most: int) -> None:
        found = self._minute.votes(name, votes, most)
        if found is None:
            return
        before, before_ends_in, now = found
        left = before_ends_in or WINDOW_S - time.time() % WINDOW_S
        problem = (
            f"it has asked for {int(before * before_ends_in / WINDOW_S + now)} of {most}; {votes} more are too many"
        )
        wait = seconds_until_room(before, now, left, most - votes)
        raise QuotaExceededError(name, "votes_per_minute", problem, _whole_seconds(wait))


def seconds_until_room(before: int, now: int, left_s: float, room: int) -> float:
    """When a sliding window of a minute counts at most `room`, if nothing is added.

    Args:
        before: counted in the last whole minute.
        now: counted in this one.
        left_s: what is left of this one.
        room: at most so many may be counted.
    """
    if now <= room:
        return max(0.0, left_s - (room - now) * WINDOW_S / before) if before else 0.0
    return left_s + WINDOW_S - room * WINDOW_S / now


def _whole_seconds(seconds: float) -> int:
    """For `Retry-After`: rounded up, at least one."""
    return max(1, math.ceil(seconds))
