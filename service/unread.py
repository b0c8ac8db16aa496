"""How many bytes of requests are held that nobody has made sense of yet."""

from collections.abc import Iterator
from contextlib import contextmanager

from noisevote.service.errors import QueueFullError


class UnreadBytes:
    """Bytes of bodies that arrive, or have arrived and wait to be read; at most `limit` in all."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def fits(self, size: int) -> bool:
        """So many bytes more may be held."""
        return self.held + size <= self.limit

    def take(self, size: int) -> None:
        """Hold so many bytes more; negative: fewer."""
        self.held += size

    @contextmanager
    def waiting(self, size: int) -> Iterator[None]:
        """Hold so many bytes until the context is left.

        Raises:
            QueueFullError: they do not fit.
        """
        if not self.fits(size):
            raise QueueFullError(f"body: {size} bytes beside the {self.held} that wait to be read pass {self.limit}")
        self.take(size)
        try:
            yield
        finally:
            self.take(-size)
