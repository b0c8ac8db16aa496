"""What all connections of a server share."""

import logging
import time
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

from noisevote.service.connections.limits import OpenConnections, Phase
from noisevote.service.connections.loop_turns import LoopTurns
from noisevote.service.connections.reading import Reading
from noisevote.service.errors import DrainingError, ServiceError
from noisevote.service.once import OncePerMinute
from noisevote.service.settings import Settings
from noisevote.service.unread import UnreadBytes

logger = logging.getLogger(__name__)

# Closing a connection takes some tenths of a millisecond.
AT_ONCE: Final = 16
# Of bodies that hold bytes which others need, one must have been silent for so long to be given up.
SILENT_S: Final = 1.0


class Connection(Protocol):
    """A connection, as far as the door has to do with it."""

    def refuse(self, error: ServiceError) -> None:
        """Answer with an error, and close it."""

    def too_slow(self, phase: Phase) -> None:
        """Close it, with an answer where one is waited for."""

    def drop(self) -> None:
        """Close it at once, without a word."""


class Door:
    """What all connections of a server share: limits, and what of them is used; `refused` is told codes of refusals."""

    def __init__(
        self,
        settings: Settings,
        connections: OpenConnections[Connection],
        unread: UnreadBytes,
        refused: Callable[[str], None],
    ) -> None:
        self.max_header_bytes = settings.max_header_bytes
        self.connections = connections
        self.unread = unread
        self.refused = refused
        self.reading = Reading(LoopTurns())
        self.answering = LoopTurns()
        self.monitored = LoopTurns()
        self.holders: dict[Connection, None] = {}  # those whose bytes are counted, longest first
        self.deaf: dict[Connection, float] = {}  # those that do not take their answer, and since when
        self._rarely = OncePerMinute()

    def warn(self, message: str, *arguments: object) -> None:
        """Log a warning, at most one of its kind a minute."""
        again = self._rarely.allow(message, time.monotonic())
        if again is not None:
            logger.warning(message + (f" (and {again} times before)" if again else ""), *arguments)

    def sweep(self) -> bool:
        """Close connections that took too long, `AT_ONCE` at most; returns whether there may be more of them.

        Clients that come together are late together, and closing a thousand keeps all others waiting.
        """
        now = time.monotonic()
        late = list(islice(self.connections.overdue(now), AT_ONCE))
        for connection, phase in late:
            connection.too_slow(phase)
        deaf = [each for each, since in self.deaf.items() if now - since > self.connections.limits.body_seconds]
        for connection in deaf[:AT_ONCE]:
            connection.drop()
        return len(late) == AT_ONCE or len(deaf) > AT_ONCE

    def drain(self) -> None:
        """Refuse what is not yet complete: the server is about to end."""
        for connection in [each for each in self.connections.peers() if self.connections.phase(each) is Phase.BODY]:
            connection.refuse(DrainingError("draining: the server ends before the body was complete"))

    def silent_holder(self) -> Connection | None:
        """The connection that has been silent longest of those that hold bytes; None: none is silent."""
        now = time.monotonic()
        silent = ((self.connections.silent_s(each, now), each) for each in self.holders)
        seconds, holder = max(silent, key=lambda pair: pair[0], default=(0.0, None))
        return holder if seconds >= SILENT_S else None
