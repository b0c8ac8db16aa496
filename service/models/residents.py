"""Which sessions are in memory, by when they were used last, under a bound on the bytes of their files. Pure."""

from collections import OrderedDict

from noisevote.engine.session_key import SessionKey


class Residents:
    """Sessions that are in memory, the one that was used longest ago first.

    `most_bytes` bounds the sum of their files' sizes; None: nothing does.
    """

    def __init__(self, most_bytes: int | None = None) -> None:
        self.most_bytes = most_bytes
        self._sizes: OrderedDict[SessionKey, int] = OrderedDict()

    def __contains__(self, session: object) -> bool:
        return session in self._sizes

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def bytes(self) -> int:
        """Bytes of all their files."""
        return sum(self._sizes.values())

    def lacking(self, size: int) -> int:
        """Bytes that must become free before a file of this size fits; not above 0: it does."""
        return 0 if self.most_bytes is None else self.bytes + size - self.most_bytes

    def add(self, session: SessionKey, size: int) -> None:
        """Note one that is in memory now, and was just used."""
        self._sizes[session] = size
        self._sizes.move_to_end(session)

    def use(self, session: SessionKey) -> bool:
        """Note that one was used; False: it is not in memory."""
        if session not in self._sizes:
            return False
        self._sizes.move_to_end(session)
        return True

    def remove(self, session: SessionKey) -> None:
        """Note that one is not in memory any more; unknown ones are no error."""
        self._sizes.pop(session, None)

    def by_use(self) -> list[SessionKey]:
        """All of them, the one that was used longest ago first."""
        return list(self._sizes)
