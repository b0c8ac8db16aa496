"""`POST …/predict/stream`: the votes as they are counted, as server-sent events.

`votes` events say how the votes stand on the inputs that a batch brought some for; one `answer` event is the whole
answer of `…/predict`; an `error` event says why there is none. What is refused before the first batch is
refused as `…/predict` refuses it, by status.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import numpy as np
import orjson
from anyio import BrokenResourceError
from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from numpy.typing import NDArray

from noisevote.service.errors import ClientLeftError, ServiceError
from noisevote.service.prediction.accounting import RequestRecord
from noisevote.service.rest.v1.predict import DOCUMENTED, Prepared, predictions, queued, read, respond
from noisevote.service.runtime import runtime_of
from noisevote.service.scheduling.ticket import CountedVotes, VoteTicket
from noisevote.voting.tally import Tally

router = APIRouter(tags=["predict"])
STREAMED: Final[dict[str, Any]] = {
    "response_class": EventSourceResponse,
    "responses": {status: response for status, response in DOCUMENTED["responses"].items() if status != 200},
    "openapi_extra": DOCUMENTED["openapi_extra"],
}


@dataclass(frozen=True)
class Accepted:
    """A request in the queue, what its answer repeats, and what the metrics will say of it."""

    prepared: Prepared
    ticket: VoteTicket
    record: RequestRecord


async def acceptance(request: Request, name: str, version: str | None = None) -> AsyncIterator[Accepted]:
    """Queue the request; however its stream ends, what is not yet computed then is dropped."""
    with RequestRecord(runtime_of(request).metrics) as record:
        prepared = await read(request, record, name, version, anytime=True)
        with queued(request, record, prepared) as ticket:
            try:
                yield Accepted(prepared, ticket, record)
            except* BrokenResourceError:  # FastAPI has an event for a client that has left
                pass
            finally:
                if not ticket.over:
                    record.fails(ClientLeftError("its client left the stream"))


Queued = Annotated[Accepted, Depends(acceptance)]


@router.post("/v1/models/{name}/predict/stream", **STREAMED)
async def stream(accepted: Queued) -> AsyncIterator[ServerSentEvent]:
    """`…/predict` by the newest version, told while the votes are cast."""
    async for event in _events(accepted):
        yield event


@router.post("/v1/models/{name}/versions/{version}/predict/stream", **STREAMED)
async def stream_version(accepted: Queued) -> AsyncIterator[ServerSentEvent]:
    """The same on a chosen version."""
    async for event in _events(accepted):
        yield event


async def _events(accepted: Accepted) -> AsyncIterator[ServerSentEvent]:
    told = np.zeros(len(accepted.prepared.vote_request.inputs), np.int64)
    try:
        async for answer in accepted.ticket.standings():
            if answer.ended:
                content = respond(accepted.prepared, answer)
                accepted.record.answers(answer, content["predictions"])
                yield _event("answer", content)
            else:
                changed = np.flatnonzero(answer.tally.votes_used > told)
                told = answer.tally.votes_used
                yield _event("votes", {"predictions": _changed(accepted.prepared, answer, changed)})
    except ServiceError as error:
        accepted.record.fails(error)
        yield _event("error", {"error": {"code": error.code, "message": str(error)}})


def _changed(prepared: Prepared, answer: CountedVotes, inputs: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The predictions of some inputs, which their `input` numbers."""
    tally = Tally(answer.tally.histogram[inputs], answer.tally.probabilities[inputs])
    shown = predictions(prepared, replace(answer, tally=tally, complete=answer.complete[inputs]))
    return [{"input": index, **prediction} for index, prediction in zip(inputs.tolist(), shown, strict=True)]


def _event(name: str, content: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(event=name, raw_data=orjson.dumps(content).decode())
