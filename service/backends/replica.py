"""What a replica answers that is asked for votes: how they stand, and signs of life while it computes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import CountedVotes, VoteTicket

# Standings follow one another no faster; several batches are then told of at a time.
TELL_S: Final = 0.02


async def count(
    dispatcher: Dispatcher, request: VoteRequest, deadline_ms: float | None, beat_s: float
) -> AsyncGenerator[CountedVotes | None]:
    """The answer, after how the votes stand if the request is `anytime`; None whenever `beat_s` went by without news.

    Closing it drops what is not yet computed. See `Dispatcher.accepted` and `VoteTicket.answer` for errors.
    """
    with dispatcher.accepted(request, deadline_ms) as ticket:
        news = ticket.standings() if request.anytime else _answer(ticket)
        while True:
            coming = asyncio.ensure_future(anext(news))
            try:
                while not (await asyncio.wait({coming}, timeout=beat_s))[0]:
                    yield None
            finally:
                coming.cancel()
            yield (answer := coming.result())
            if answer.ended:
                return
            await asyncio.sleep(TELL_S)


async def _answer(ticket: VoteTicket) -> AsyncIterator[CountedVotes]:
    yield await ticket.answer()
