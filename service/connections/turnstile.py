"""Who may go on in this turn of the event loop, and who waits for a later one. Pure."""

from typing import Generic, TypeVar

Peer = TypeVar("Peer")


class Turnstile(Generic[Peer]):
    """Lets `most` pass in each turn, in the order in which they arrived."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._passed: set[Peer] = set()  # in this turn
        self._waiting: dict[Peer, None] = {}
        self._shut = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def room(self, peer: Peer) -> bool:
        """Whether it would pass now. What has passed may do so again as long as the turn lasts."""
        return not self._shut and (len(self._passed) < self._most or peer in self._passed)

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

    def shut(self) -> None:
        """Let nobody pass any more in this turn."""
        self._shut = True

    def begin(self) -> None:
        """Begin a turn: first `next` for those that waited, then `arrive` for others."""
        self._passed.clear()
        self._shut = False

    def next(self) -> Peer | None:
        """Who has waited longest, and passes now; None: nobody."""
        peer = next(iter(self._waiting), None)
        if peer is None or not self.room(peer):
            return None
        del self._waiting[peer]
        self._passed.add(peer)
        return peer
