"""What a replica answers that is asked for votes: how they stand, and signs of life while it computes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from noisevote.engine.session_key import SessionKey
from noisevote.service.errors import EngineError
from noisevote.service.models.local_repository import LocalRepository
from noisevote.service.models.registry import ServedVersion
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import CountedVotes, VoteTicket

# Standings follow one another no faster; several batches are then told of at a time.
TELL_S: Final = 0.02


async def hold(repository: LocalRepository, session: SessionKey) -> ServedVersion:
    """The version that a session belongs to, which stays loaded as long as it is held.

    A replica that started after a model was loaded by hand, or in the middle of it, loads it now.

    Raises:
        ServiceError: there is no such version any more, or it is broken.
    """
    served = repository.holding(session)
    if served is None:
        await repository.load(session.model, session.version)
        served = repository.holding(session)
    if served is None:
        raise EngineError(f"{session}: its file has changed in the store of this replica")
    return served


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
