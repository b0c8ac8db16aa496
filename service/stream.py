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
from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from numpy.typing import NDArray

from service.errors import ServiceError
from service.predict import DOCUMENTED, Prepared, predictions, read, respond
from service.serving import serving_of
from service.votes import Tally
from service.voting import Answer, Voting

router = APIRouter(tags=["predict"])
STREAMED: Final[dict[str, Any]] = {
    "response_class": EventSourceResponse,
    "responses": {status: response for status, response in DOCUMENTED["responses"].items() if status != 200},
    "openapi_extra": DOCUMENTED["openapi_extra"],
}


@dataclass(frozen=True)
class Accepted:
    """A request in the queue, and what its answer repeats."""

    prepared: Prepared
    voting: Voting


async def accepted(request: Request, name: str, version: str | None = None) -> AsyncIterator[Accepted]:
    """Queue the request; however its stream ends, what is not yet computed then is dropped."""
    prepared = await read(request, name, version, anytime=True)
    with serving_of(request).dispatcher.accepted(prepared.vote_request, prepared.asked.deadline_ms) as voting:
        yield Accepted(prepared, voting)


Queued = Annotated[Accepted, Depends(accepted)]


@router.post("/v1/models/{name}/predict/stream", **STREAMED)
async def stream(queued: Queued) -> AsyncIterator[ServerSentEvent]:
    """`…/predict` by the newest version, told while the votes are cast."""
    async for event in _events(queued):
        yield event


@router.post("/v1/models/{name}/versions/{version}/predict/stream", **STREAMED)
async def stream_version(queued: Queued) -> AsyncIterator[ServerSentEvent]:
    """The same on a chosen version."""
    async for event in _events(queued):
        yield event


async def _events(queued: Accepted) -> AsyncIterator[ServerSentEvent]:
    told = np.zeros(len(queued.prepared.vote_request.inputs), np.int64)
    try:
        async for answer in queued.voting.standings():
            if answer.ended:
                yield _event("answer", respond(queued.prepared, answer))
            else:
                changed = np.flatnonzero(answer.tally.votes_used > told)
                told = answer.tally.votes_used
                yield _event("votes", {"predictions": _changed(queued.prepared, answer, changed)})
    except ServiceError as error:
        yield _event("error", {"error": {"code": error.code, "message": str(error)}})


def _changed(prepared: Prepared, answer: Answer, inputs: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The predictions of some inputs, which their `input` numbers."""
    tally = Tally(answer.tally.histogram[inputs], answer.tally.probabilities[inputs])
    shown = predictions(prepared, replace(answer, tally=tally, complete=answer.complete[inputs]))
    return [{"input": index, **prediction} for index, prediction in zip(inputs.tolist(), shown, strict=True)]


def _event(name: str, content: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(event=name, raw_data=orjson.dumps(content).decode())
