"""What closes connections that took too long, and how many at a time."""

import time

from noisevote.service.connections.door import AT_ONCE, Door
from noisevote.service.connections.limits import ConnectionLimits, OpenConnections, Phase
from noisevote.service.errors import ServiceError
from noisevote.service.settings import Settings
from noisevote.service.unread import UnreadBytes


class Peer:
    """A connection that notes how it was closed."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.closed: list[object] = []

    def refuse(self, error: ServiceError) -> None:
        """Note it."""
        self.closed.append(error)

    def too_slow(self, phase: Phase) -> None:
        """Note it, and leave."""
        self.closed.append(phase)
        self.door.connections.leave(self)

    def drop(self) -> None:
        """Note it, and leave."""
        self.closed.append("dropped")
        self.door.deaf.pop(self, None)


def door(**limits: float) -> Door:
    """A door of these limits."""
    of = ConnectionLimits(connections=1000, **limits)  # type: ignore[arg-type]  # seconds
    return Door(Settings(), OpenConnections(of), UnreadBytes(2**20), lambda _: None)


def test_few_connections_are_closed_at_a_time() -> None:
    """Clients that came together are late together: each sweep closes some, says if there are more, and none twice."""
    at = door(header_seconds=-1)
    peers = [Peer(at) for _ in range(2 * AT_ONCE + 3)]
    for peer in peers:
        at.connections.admit(peer, "", time.monotonic())
    for left in (AT_ONCE + 3, 3):
        assert at.sweep()
        assert sum(not peer.closed for peer in peers) == left
    assert not at.sweep()
    assert all(peer.closed == [Phase.HEADER] for peer in peers)


def test_few_that_take_no_answer_are_dropped_at_a_time() -> None:
    """The same for clients that do not read; whoever still has time stays."""
    at = door(body_seconds=5)
    peers = [Peer(at) for _ in range(AT_ONCE + 1)]
    patient = Peer(at)
    for peer in peers:
        at.deaf[peer] = time.monotonic() - 6
    at.deaf[patient] = time.monotonic()
    assert at.sweep()
    assert sum(bool(peer.closed) for peer in peers) == AT_ONCE
    assert not at.sweep()
    assert all(peer.closed == ["dropped"] for peer in peers)
    assert not patient.closed
