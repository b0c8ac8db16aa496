"""Who asks: the holder of a key, or anybody where no key is needed."""

from dataclasses import dataclass
from typing import Final, Literal

Scope = Literal["predict", "admin"]


@dataclass(frozen=True)
class Quotas:
    """The most that a caller may have; None: no limit of its own.

    Attributes:
        requests_per_minute: requests, of whatever kind.
        votes_per_minute: votes asked for.
        queued_votes: votes that wait or run at a time.
        priority: of a request.
    """

    requests_per_minute: int | None = None
    votes_per_minute: int | None = None
    queued_votes: int | None = None
    priority: int | None = None

    @property
    def by_the_minute(self) -> bool:
        """Something is counted by the minute."""
        return self.requests_per_minute is not None or self.votes_per_minute is not None


@dataclass(frozen=True)
class Caller:
    """Who asks. `name` is the key's, for logs and messages; it is no secret."""

    name: str
    scopes: frozenset[Scope]
    quotas: Quotas = Quotas()


# Where no key is needed. It is many clients that cannot be told apart, so it has no quotas.
ANYBODY: Final = Caller("-", frozenset({"predict"}))
