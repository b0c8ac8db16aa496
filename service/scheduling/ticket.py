"""What the client of an accepted request waits for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from noisevote.service.errors import ClientLeftError, ServiceError
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.scheduler import RequestResult
from noisevote.voting.tally import Tally


@dataclass(frozen=True)
class CountedVotes:
    """The counted votes of a request; seconds from its acceptance to its first batch, and from there to now.

    `complete` bool [inputs]: all votes that the rule wanted were cast. `ended` tells that no more will come.
    """

    tally: Tally
    complete: NDArray[np.bool_]
    queue_s: float
    compute_s: float
    ended: bool = True

    def of(self, inputs: NDArray[np.int64]) -> "CountedVotes":
        """The same of some inputs only, int64 [n]."""
        return replace(self, tally=self.tally.of(inputs), complete=self.complete[inputs])


class VoteCounter(Protocol):
    """Where the votes of accepted requests are counted."""

    def expire(self, request: VoteRequest) -> RequestResult | None:
        """End a request with the votes counted so far; None if it is over, which then was or will be reported."""

    def standing(self, request: VoteRequest) -> tuple[Tally, NDArray[np.bool_]] | None:
        """The votes of a request counted so far, and which of its inputs are complete; None as above."""


class VoteTicket:
    """An accepted request, from its acceptance to its end. Made by whoever accepts it."""

    def __init__(self, request: VoteRequest, counting: VoteCounter, clock: Callable[[], float]) -> None:
        self.request = request
        self._counting = counting
        self._clock = clock
        self._accepted = clock()
        self._started: float | None = None
        self._finished: asyncio.Future[RequestResult] = asyncio.get_running_loop().create_future()
        self._counted = asyncio.Event()

    @property
    def over(self) -> bool:
        """The request has ended: nobody waits for its votes any more."""
        return self._finished.done()

    def note_start(self, now: float) -> None:
        """Note that a batch with rows of the request began at `now`."""
        self._started = now if self._started is None else min(now, self._started)

    def note_count(self) -> None:
        """Note that votes of the request were counted."""
        self._counted.set()

    def finish(self, finished: RequestResult) -> None:
        """End the request with this result; later calls change nothing."""
        if not self.over:
            self._finished.set_result(finished)
            self._counted.set()

    def end(self, without_votes: Callable[[int], ServiceError]) -> None:
        """End the request with the votes counted so far; `without_votes` makes the error for an input that has none."""
        if not self.over and (finished := self._counting.expire(self.request)) is not None:
            empty = np.flatnonzero(finished.tally.votes_used == 0)
            self.finish(replace(finished, error=without_votes(int(empty[0]))) if len(empty) else finished)

    def abandon(self) -> None:
        """Drop what is not yet computed: the client has left."""
        if not self.over and (finished := self._counting.expire(self.request)) is not None:
            left = ClientLeftError(f"the client of {self.request.session} left before its answer")
            self.finish(replace(finished, error=left))

    async def answer(self) -> CountedVotes:
        """All votes that the rule wants, or those counted when it was ended.

        Raises:
            ServiceError: it could not be computed, was abandoned, or was ended before each input had a vote.
        """
        return self._answer(await self._finished)

    async def standings(self) -> AsyncIterator[CountedVotes]:
        """The votes so far, whenever some were counted; the last is what `answer` returns, and errors are its own.

        Whoever asks more rarely than batches are counted is told of several at a time.
        """
        while not self.over:
            await self._counted.wait()
            self._counted.clear()
            if not self.over and (standing := self._counting.standing(self.request)) is not None:
                yield CountedVotes(*standing, *self._times(), ended=False)
        yield await self.answer()

    def let_go(self) -> None:
        """Forget how the request ended, once nobody asks: the traceback of its error leads here, and would keep it."""
        ended = self._finished
        if not ended.done() or ended.cancelled() or ended.result().error is not None:
            self._finished = asyncio.get_running_loop().create_future()
            self._finished.cancel()

    def _answer(self, finished: RequestResult) -> CountedVotes:
        if (error := finished.error) is not None:
            try:
                raise error
            finally:
                del error, finished  # see `let_go`
        return CountedVotes(finished.tally, finished.complete, *self._times())

    def _times(self) -> tuple[float, float]:
        started = self._accepted if self._started is None else self._started
        return started - self._accepted, self._clock() - started
