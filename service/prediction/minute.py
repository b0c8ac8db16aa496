"""What callers have had in the last minute, by their names."""

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter


class Minute:
    """Counts requests and votes.

    Requests are counted exactly, in a moving window. That would keep an entry for every vote of the last minute, so
    votes are counted in two numbers: the last whole minute counts by the share of it that is still in the window.
    """

    def __init__(self) -> None:
        self._storage = MemoryStorage()
        self._requests = MovingWindowRateLimiter(self._storage)
        self._votes = SlidingWindowCounterRateLimiter(self._storage)

    def count_request(self, name: str, most: int) -> float | None:
        """Count a request; where it is one too many, it is not counted: when there is room, in seconds since 1970."""
        item = RateLimitItemPerMinute(most)
        if self._requests.hit(item, "requests", name):
            return None
        return self._requests.get_window_stats(item, "requests", name).reset_time

    def count_votes(self, name: str, votes: int, most: int) -> None:
        """Count votes."""
        self._votes.hit(RateLimitItemPerMinute(most), "votes", name, cost=votes)

    def votes(self, name: str, votes: int, most: int) -> tuple[int, float, int] | None:
        """Nothing where so many more are at most `most`; else what was had.

        That is the last whole minute's count, the seconds until it counts no more, and this minute's count.
        """
        item = RateLimitItemPerMinute(most)
        if self._votes.test(item, "votes", name, cost=votes):
            return None
        before, before_ends_in, now, _ = self._storage.get_sliding_window(
            item.key_for("votes", name), item.get_expiry()
        )
        return before, before_ends_in, now
