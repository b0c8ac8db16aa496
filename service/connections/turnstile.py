"""Who may go on in this turn of the event loop, and who waits for a later one. Pure."""

from itertools import islice
from typing import Generic, TypeVar

Peer = TypeVar("Peer")


class Turnstile(Generic[Peer]):
    """Lets `most` pass in each turn, in the order in which they arrived."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._passed: set[Peer] = set()  # in this turn
        self._waiting: dict[Peer, None] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def room(self, peer: Peer) -> bool:
        """Whether it would pass now. What has passed may do so again as long as the turn lasts."""
        return len(self._passed) < self._most or peer in self._passed

    def arrive(self, peer: Peer) -> bool:
        """Whether it passes; otherwise it waits."""
        if self.room(peer):
            self._passed.add(peer)
            return True
        self._waiting[peer] = None
        return False

    def leave(self, peer: Peer) -> None:
        """It waits no longer. One that does not wait is no error."""
        self._waiting.pop(peer, None)

    def turn(self) -> list[Peer]:
        """Begin a turn; returns those that waited and pass in it."""
        passing = list(islice(self._waiting, self._most))
        for peer in passing:
            del self._waiting[peer]
        self._passed = set(passing)
        return passing
