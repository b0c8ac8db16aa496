"""When to ask a busy server again."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

# What a server says that has no room now (429), or is not ready or about to end (503).
BUSY: Final = frozenset({429, 503})
# Where it does not say when to come back: after so long, then twice as long each time.
FIRST_PAUSE_S: Final = 0.5
# Everybody who was refused is told the same whole seconds; so much longer at most, so that not all come at once.
SPREAD: Final = 0.25


@dataclass(frozen=True)
class Patience:
    """How often to ask again, and how long to wait for it at most each time."""

    retries: int = 3
    longest_pause_s: float = 30.0

    def pause_s(self, tried: int, status: int, retry_after_s: float | None, chance: float) -> float | None:
        """Seconds to wait before asking again.

        Args:
            tried: how often it was asked already, at least once.
            status: of the answer.
            retry_after_s: when to come back, as the server says; None: it does not.
            chance: a random number in 0 … 1.

        Returns:
            None: asking again is no use, or would take too long.
        """
        if status not in BUSY or tried > self.retries:
            return None
        wanted = FIRST_PAUSE_S * 2 ** (tried - 1) if retry_after_s is None else retry_after_s
        return None if wanted > self.longest_pause_s else min(wanted * (1 + SPREAD * chance), self.longest_pause_s)


USUAL: Final = Patience()


def seconds_of(retry_after: str | None, now: datetime) -> float | None:
    """What a Retry-After header says, in seconds or as a date (RFC 9110, 10.2.3); None where it cannot be read."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        then = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, ((then if then.tzinfo else then.replace(tzinfo=UTC)) - now).total_seconds())
