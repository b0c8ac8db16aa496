"""Accepted requests that are not over, on the event loop: their deadlines, and the end of the server."""

import asyncio
import logging
from collections.abc import Callable

from noisevote.service.errors import DeadlineExceededError, DrainingError, ServiceError
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import VoteTicket

logger = logging.getLogger(__name__)


class InFlight:
    """Holds the ticket of each accepted request until whoever asked has left."""

    def __init__(self) -> None:
        self.draining = False
        self._tickets: dict[VoteRequest, VoteTicket] = {}
        self._expiries: dict[VoteRequest, asyncio.TimerHandle] = {}  # of those that have a deadline
        self._emptied = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Some request is not over."""
        return bool(self._tickets)

    def get(self, request: VoteRequest) -> VoteTicket | None:
        """The ticket of a request, if it is still in flight."""
        return self._tickets.get(request)

    def refuse_if_draining(self) -> None:
        """Nothing, while requests are accepted.

        Raises:
            DrainingError: the server is about to end.
        """
        if self.draining:
            raise DrainingError("draining: the server finishes what it has accepted, and ends")

    def hold(self, ticket: VoteTicket, deadline_ms: float | None) -> None:
        """Hold a ticket until `let_go`; end its request `deadline_ms` from now with the votes so far."""
        self._tickets[ticket.request] = ticket
        if deadline_ms is not None:
            self._expiries[ticket.request] = _expire_later(ticket, deadline_ms)

    def let_go(self, ticket: VoteTicket) -> None:
        """Hold a ticket no more: whoever asked has left."""
        del self._tickets[ticket.request]
        if (expiry := self._expiries.pop(ticket.request, None)) is not None:
            expiry.cancel()
        ticket.let_go()
        if not self._tickets:
            self._emptied.set()

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more; returns once all that was accepted is over, after `grace_s` with the votes so far."""
        self.draining = True
        try:
            async with asyncio.timeout(grace_s):
                while self._tickets:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            logger.warning("draining: %d requests ended after %s s with the votes so far", len(self._tickets), grace_s)
            for ticket in list(self._tickets.values()):
                ticket.end(lambda index: DrainingError(f"draining: the server ends before inputs[{index}] had a vote"))


def _expire_later(ticket: VoteTicket, deadline_ms: float) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(deadline_ms / 1e3, ticket.end, without_votes(deadline_ms))


def without_votes(deadline_ms: float) -> Callable[[int], ServiceError]:
    """The error for an input, by its index, that has no vote at its request's deadline."""

    def expired(index: int) -> DeadlineExceededError:
        return DeadlineExceededError(f"deadline_ms: {deadline_ms:g} passed before inputs[{index}] had a vote")

    return expired
