"""Accepted requests that are not over, on the event loop: their deadlines, and the end of the server."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from noisevote.service.errors import DeadlineExceededError, DrainingError, ServiceError
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import Voting

logger = logging.getLogger(__name__)


class UnderWay:
    """Votings by their requests, from acceptance until whoever asked has left."""

    def __init__(self) -> None:
        self.draining = False
        self._votings: dict[VoteRequest, Voting] = {}
        self._emptied = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Some request is not over."""
        return bool(self._votings)

    def get(self, request: VoteRequest) -> Voting | None:
        """The voting of a request, if it is still under way."""
        return self._votings.get(request)

    def refuse_if_draining(self) -> None:
        """Nothing, while requests are accepted.

        Raises:
            DrainingError: the server is about to end.
        """
        if self.draining:
            raise DrainingError("draining: the server finishes what it has accepted, and ends")

    @contextmanager
    def hold(self, voting: Voting, deadline_ms: float | None) -> Iterator[Voting]:
        """Keep a voting until left; `deadline_ms` after now it ends as it stands."""
        self._votings[voting.request] = voting
        expiry = None if deadline_ms is None else _expire_later(voting, deadline_ms)
        try:
            yield voting
        finally:
            if expiry is not None:
                expiry.cancel()
            del self._votings[voting.request]
            if not self._votings:
                self._emptied.set()

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more; returns once all that was accepted is over, after `grace_s` with the votes so far."""
        self.draining = True
        try:
            async with asyncio.timeout(grace_s):
                while self._votings:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            logger.warning("draining: %d requests ended after %s s with the votes so far", len(self._votings), grace_s)
            for voting in list(self._votings.values()):
                voting.end(lambda index: DrainingError(f"draining: the server ends before inputs[{index}] had a vote"))


def _expire_later(voting: Voting, deadline_ms: float) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(deadline_ms / 1e3, voting.end, without_votes(deadline_ms))


def without_votes(deadline_ms: float) -> Callable[[int], ServiceError]:
    """The error for an input, by its index, that has no vote at its request's deadline."""

    def expired(index: int) -> DeadlineExceededError:
        return DeadlineExceededError(f"deadline_ms: {deadline_ms:g} passed before inputs[{index}] had a vote")

    return expired
