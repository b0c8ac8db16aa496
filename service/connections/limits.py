"""Which connections are open, what each waits for, and which of them has to go. Pure: time is passed in."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Self, TypeVar

from noisevote.service.settings import Settings

Peer = TypeVar("Peer")


class Phase(Enum):
    """What a connection's client does, or what it waits for."""

    HEADER = "header"  # it has yet to send a first header, or has begun one
    BODY = "body"
    ANSWER = "answer"  # its request is complete
    IDLE = "idle"  # its answer is complete, and the next request has not begun
    REFUSED = "refused"  # it was told so, and may read that before it is closed


@dataclass(frozen=True)
class ConnectionLimits:
    """Bounds on connections; see the settings of the same names."""

    connections: int
    per_address: int = 0
    header_seconds: float = 20.0
    body_seconds: float = 20.0
    min_body_rate: float = 8192.0
    farewell_seconds: float = 2.0

    @classmethod
    def of(cls, settings: Settings, descriptors: int) -> Self:
        """By settings, where the process may open so many connections at all."""
        return cls(
            min(settings.max_connections, max(1, descriptors)),
            settings.max_connections_per_address,
            settings.header_seconds,
            settings.body_seconds,
            settings.min_body_rate,
        )


@dataclass
class _Standing:
    address: str
    phase: Phase
    since: float  # when the phase began
    heard: float  # when the last byte came
    received: int = 0  # bytes of the body


class OpenConnections(Generic[Peer]):
    """All open connections. Each is in one phase; a `Peer` is whatever the caller knows it by."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: dict[Peer, _Standing] = {}
        # Those without a complete request, in the order in which they began to be without one.
        self._incomplete: dict[Peer, None] = {}
        self._of_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def peers(self) -> list[Peer]:
        """All that are open."""
        return list(self._open)

    def phase(self, peer: Peer) -> Phase | None:
        """What a connection waits for; None: it is not open."""
        standing = self._open.get(peer)
        return None if standing is None else standing.phase

    def admit(self, peer: Peer, address: str, now: float) -> Peer | None:
        """Open a connection; returns the one that has to be closed for it, if any: itself where no other may be."""
        full_address = self.limits.per_address and self._of_address[address] >= self.limits.per_address
        full = len(self._open) >= self.limits.connections
        self._open[peer] = _Standing(address, Phase.HEADER, now, now)
        self._of_address[address] += 1
        oldest = next(iter(self._incomplete), peer)
        self._incomplete[peer] = None
        return peer if full_address else oldest if full else None

    def leave(self, peer: Peer) -> None:
        """A connection is closed. An unknown one is no error."""
        if (standing := self._open.pop(peer, None)) is not None:
            self._of_address[standing.address] -= 1
            if not self._of_address[standing.address]:
                del self._of_address[standing.address]
        self._incomplete.pop(peer, None)

    def enter(self, peer: Peer, phase: Phase, now: float) -> None:
        """A connection begins a phase."""
        if (standing := self._open.get(peer)) is None or standing.phase is Phase.REFUSED:
            return
        standing.phase, standing.since, standing.heard, standing.received = phase, now, now, 0
        if phase is Phase.ANSWER:
            self._incomplete.pop(peer, None)
        elif peer not in self._incomplete:
            self._incomplete[peer] = None

    def heard(self, peer: Peer, size: int, now: float) -> None:
        """So many bytes of a connection's body came."""
        if (standing := self._open.get(peer)) is not None:
            standing.heard = now
            standing.received += size

    def silent_s(self, peer: Peer, now: float) -> float:
        """Seconds since a connection's last byte."""
        standing = self._open.get(peer)
        return 0.0 if standing is None else now - standing.heard

    def overdue(self, now: float) -> Iterator[tuple[Peer, Phase]]:
        """The connections that took too long, with what for; idle ones have a time limit elsewhere."""
        for peer in list(self._incomplete):
            standing = self._open[peer]
            if now > self._due(standing):
                yield peer, standing.phase

    def _due(self, standing: _Standing) -> float:
        limits = self.limits
        match standing.phase:
            case Phase.HEADER:
                return standing.since + limits.header_seconds
            case Phase.BODY:
                rate = limits.min_body_rate
                whole = standing.since + limits.body_seconds + standing.received / rate if rate else float("inf")
                return min(standing.heard + limits.body_seconds, whole)
            case Phase.REFUSED:
                return standing.since + limits.farewell_seconds
        return float("inf")
