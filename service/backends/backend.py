"""What the service needs of whoever computes the votes."""

from contextlib import AbstractContextManager
from typing import Protocol

from noisevote.service.models.registry import ModelRegistry
from noisevote.service.models.repository import Repository
from noisevote.service.scheduling.load import Load
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import VoteTicket


class VoteDispatcher(Protocol):
    """Takes requests and runs them to their end. Belongs to the event loop that calls `start`."""

    @property
    def draining(self) -> bool:
        """No more requests are accepted."""

    @property
    def crowded(self) -> bool:
        """So much waits that looking into a request before it is decoded may save the effort."""

    def start(self) -> None:
        """Begin to compute."""

    def load(self) -> Load:
        """What waits and runs now."""

    def accepted(self, request: VoteRequest, deadline_ms: float | None = None) -> AbstractContextManager[VoteTicket]:
        """A request in the queue. Leaving drops what is not yet computed; `deadline_ms` after now it ends as it stands.

        Raises:
            DrainingError: the server is about to end.
            QueueFullError: there is no room for it, or what waits takes until its deadline; nothing was queued.
            DeadlineExceededError: (from the ticket) at the deadline some input had no vote.
        """

    def refuse_if_full(self, rows: int, deadline_ms: float | None) -> None:
        """Refuse a request of so many rows as `accepted` would, before the effort of decoding it.

        Raises:
            QueueFullError: it would be refused now.
        """

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more; return once all that was accepted is over, after `grace_s` with the votes so far."""

    async def close(self) -> None:
        """End what `start` began."""


class Backend(Protocol):
    """Computes votes, in this process or elsewhere; `description` says where, for people."""

    description: str

    @property
    def dispatcher(self) -> VoteDispatcher:
        """Takes requests and runs them to their end."""

    @property
    def repository(self) -> Repository:
        """What can be done to the models meanwhile."""

    async def load(self) -> ModelRegistry:
        """Make what is published ready to serve, and say what that is."""
