"""`POST …/predict/stream`: the votes as they are counted, as server-sent events.

`votes` events say how the votes stand on the inputs that a batch brought some for; one `answer` event is the whole
answer of `…/predict`; an `error` event says why there is none. What is refused before the first batch is
refused as `…/predict` refuses it, by status.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from noisevote.service.errors import ServiceError
from noisevote.service.prediction.answer import answer_of
from noisevote.service.prediction.handle import Prediction
from noisevote.service.prediction.options import RETURNS
from noisevote.service.prediction.prepare import Prepared
from noisevote.service.rest.edge import visit_of
from noisevote.service.rest.v1.events import error_event, event, streamed
from noisevote.service.rest.v1.parse import parse
from noisevote.service.rest.v1.predict import DOCUMENTED, REFUSALS, predictions, respond
from noisevote.service.rest.v1.query import read_whole_request
from noisevote.service.rest.v1.schemas import PredictRequest
from noisevote.service.runtime import runtime_of
from noisevote.service.scheduling.ticket import CountedVotes
from noisevote.voting.tally import Tally, empty_tally

router = APIRouter(tags=["predict"])
STREAMED: Final[dict[str, Any]] = {
    "response_class": EventSourceResponse,
    "responses": REFUSALS,
    "openapi_extra": DOCUMENTED["openapi_extra"],
}


@dataclass(frozen=True)
class Accepted:
    """An accepted request, and when it came in seconds of the performance counter."""

    prediction: Prediction
    began: float


async def acceptance(request: Request, name: str, version: str | None = None) -> AsyncIterator[Accepted]:
    """Queue the request; however its stream ends, what is not yet computed then is dropped."""
    began = time.perf_counter()
    runtime = runtime_of(request)
    read = partial(read_whole_request, request, runtime.settings.max_body_bytes, PredictRequest)
    async with runtime.predictor.accept(
        name, version, read, parse, visit_of(request), anytime=True, returns=RETURNS
    ) as prediction:
        with streamed(prediction):
            yield Accepted(prediction, began)


Queued = Annotated[Accepted, Depends(acceptance)]


@router.post("/v1/models/{name}/predict/stream", **STREAMED)
async def stream(accepted: Queued) -> AsyncIterator[ServerSentEvent]:
    """`…/predict` by the newest version, told while the votes are cast."""
    async for each in _events(accepted):
        yield each


@router.post("/v1/models/{name}/versions/{version}/predict/stream", **STREAMED)
async def stream_version(accepted: Queued) -> AsyncIterator[ServerSentEvent]:
    """The same on a chosen version."""
    async for each in _events(accepted):
        yield each


async def _events(accepted: Accepted) -> AsyncIterator[ServerSentEvent]:
    prediction = accepted.prediction
    prepared = prediction.prepared
    told = empty_tally(len(prepared.vote_request.inputs), prepared.vote_request.classes)
    try:
        async for counted in prediction.progress():
            before, told = told, counted.tally
            if prepared.options.returns == "label":
                continue  # a label that changes tells how the votes stand
            yield event("votes", {"predictions": _changed(prepared, counted, before)})
        yield event("answer", respond(prepared, await prediction.answer(), accepted.began))
    except ServiceError as error:
        yield error_event(prediction, error)


def _changed(prepared: Prepared, counted: CountedVotes, told: Tally) -> list[dict[str, Any]]:
    """How the votes stand on the inputs that have more than were told of, each with its number as `input`.

    Of the votes themselves the new ones are shown.
    """
    inputs = np.flatnonzero(counted.tally.votes_used > told.votes_used)
    news = replace(counted, tally=counted.tally.since(told)).of(inputs)
    shown = predictions(prepared, answer_of(prepared, news))
    return [{"input": index, **prediction} for index, prediction in zip(inputs.tolist(), shown, strict=True)]
