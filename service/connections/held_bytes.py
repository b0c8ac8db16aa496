"""Counts the bytes of a connection's body among those that all connections hold unread."""

from typing import Final

from noisevote.service.connections.door import Connection, Door
from noisevote.service.errors import TooManyBytesError, TooSlowError

# Bodies up to this size are not counted against the limit of unread bytes: as many fit as connections do.
SHORT_BODY_BYTES: Final = 64 * 1024


class HeldBytes:
    """Of the body that one connection receives; false while none of it is counted."""

    __slots__ = ("_count", "_door")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def grow(self, connection: Connection, size: int) -> bool:
        """Count `size` bytes in all as long as they fit; else refuse the connection, or another that is silent."""
        more = size - self._count
        while not self._door.unread.fits(more):
            silent = self._door.silent_holder()
            if silent is None or silent is connection:
                problem = f"body: {self._door.unread.held} bytes of bodies arrive already; more than "
                connection.refuse(TooManyBytesError(f"{problem}{self._door.unread.limit} are not held"))
                return False
            silent.refuse(TooSlowError("body: it was silent while others needed the room"))
        self._door.unread.take(more)
        self._count = size
        self._door.holders[connection] = None
        return True

    def release(self, connection: Connection) -> None:
        """Count none of them any more."""
        self._door.unread.take(-self._count)
        self._count = 0
        self._door.holders.pop(connection, None)
