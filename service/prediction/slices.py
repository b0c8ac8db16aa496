"""Many votes cast a slice at a time, each a request in the queue like any other."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from noisevote.service.backends.backend import VoteDispatcher
from noisevote.service.errors import ClientLeftError, DeadlineExceededError, DrainingError, QueueFullError
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import CountedVotes, VoteTicket
from noisevote.service.traces import NO_TRACES, Traces
from noisevote.voting.tally import Tally

# Some batches for every worker, and a fraction of the queue; the event loop looks in between.
SLICE_VOTES: Final = 512
# Slices of all certificates that may be in the queue at once; the others wait in line for that. They keep the workers
# busy, and predictions share the workers with so many others at most.
MOST_WAITING: Final = 4
# A full queue is asked again after so long. What was accepted once is not refused in the middle.
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0


class Slices:
    """The votes of one request, cast one slice after another.

    `counted` votes were counted so far; `queue_s` seconds passed from acceptance to the first batch.

    Args:
        whole: names session, inputs and noise of every slice.
        dispatcher: takes the slices.
        deadline_ms: from now on; None: there is none.
        clock: gives seconds.
        line: where the slices of all requests wait, `MOST_WAITING` at the front.
        traces: are told of each slice.
    """

    def __init__(
        self,
        whole: VoteRequest,
        dispatcher: VoteDispatcher,
        deadline_ms: float | None,
        clock: Callable[[], float],
        line: asyncio.Semaphore,
        traces: Traces = NO_TRACES,
    ) -> None:
        self.counted = 0
        self.queue_s = 0.0
        self._whole = whole
        self._dispatcher = dispatcher
        self._clock = clock
        self._line = line
        self._traces = traces
        self._deadline = None if deadline_ms is None else clock() + deadline_ms / 1e3
        self._ticket: VoteTicket | None = None
        self._abandoned = False
        self._ended = False

    @staticmethod
    def share_of(votes: int) -> int:
        """How many of so many votes the next slice takes."""
        return min(votes, SLICE_VOTES)

    def abandon(self) -> None:
        """Drop what is not yet computed: the client has left."""
        self._abandoned = True
        if self._ticket is not None:
            self._ticket.abandon()

    async def cast(self, number: int, seed: int, first_vote: int, votes: int) -> Tally | None:
        """Votes `first_vote` … of one input, all of them; None if the deadline or the server's end came before.

        An incomplete slice is dropped: what is counted are the first votes, whatever batches came back first.

        Raises:
            ServiceError: they could not be computed, the client left, or nothing was accepted at all.
        """
        request = replace(self._whole, inputs=self._whole.inputs[number : number + 1], seed=seed)
        total: Tally | None = None
        while votes and not self._ended:
            part = self.share_of(votes)
            counted = await self._accepted(replace(request, votes=part, first_vote=first_vote))
            if counted is None:
                return None
            tally = counted.tally
            if total is not None:
                tally = Tally(total.histogram + tally.histogram, total.probabilities + tally.probabilities)
            total, first_vote, votes = tally, first_vote + part, votes - part
        return None if votes else total

    async def _accepted(self, request: VoteRequest) -> CountedVotes | None:
        """A slice, once the queue has room for it."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._vote(request)
            except QueueFullError:
                if not self.counted:
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except (DeadlineExceededError, DrainingError) as error:
                if not self.counted and isinstance(error, DrainingError):
                    raise
                self._ended = True
                return None

    async def _vote(self, request: VoteRequest) -> CountedVotes | None:
        try:
            async with asyncio.timeout(self._left_s()):
                await self._line.acquire()
        except TimeoutError:
            self._ended = True
            return None
        try:
            return await self._at_the_front(request)
        finally:
            self._line.release()

    async def _at_the_front(self, request: VoteRequest) -> CountedVotes | None:
        if self._abandoned:
            raise ClientLeftError(f"the client of {request.session} left before its answer")
        left_s = self._left_s()
        if left_s is not None and left_s <= 0:
            self._ended = True
            return None
        try:
            with self._dispatcher.accepted(request, None if left_s is None else 1e3 * left_s) as self._ticket:
                found = await self._ticket.answer()
        finally:
            self._ticket = None
        self._traces.sliced(self._whole, request, found, self._clock())
        if not found.complete.all():
            self._ended = True
            return None
        self.queue_s = self.queue_s if self.counted else found.queue_s
        self.counted += request.rows
        return found

    def _left_s(self) -> float | None:
        return None if self._deadline is None else self._deadline - self._clock()
