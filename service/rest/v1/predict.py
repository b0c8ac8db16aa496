"""`POST …/predict`: inputs in, votes out."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from noisevote.model_store.manifest import Variant
from noisevote.noise_op.contract import sigma_row
from noisevote.service.errors import InvalidValueError
from noisevote.service.models.registry import ServedVersion
from noisevote.service.prediction.accounting import RequestRecord
from noisevote.service.prediction.inputs import decode_inputs
from noisevote.service.rest.body import parse_object, read_json_body
from noisevote.service.rest.v1.schemas import AnalogCost, ErrorResponse, PredictRequest, PredictResponse
from noisevote.service.runtime import Runtime, runtime_of
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import CountedVotes, VoteTicket
from noisevote.service.settings import Settings
from noisevote.service.validation import as_invalid_value
from noisevote.voting.decision import decide

# Longer bodies are decoded on another thread: unpacking images leaves the event loop free meanwhile.
LONG_BODY_BYTES: Final = 64 * 1024
# Drawn seeds stay exact in clients whose numbers are doubles (JavaScript).
DRAWN_SEED_BITS: Final = 53

router = APIRouter(tags=["predict"])
DOCUMENTED: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: {"model": PredictResponse, "description": "The decision on each input, in the order of the inputs."},
        **{
            status: {"model": ErrorResponse, "description": description}
            for status, description in {
                400: "Not JSON.",
                404: "Unknown model, version or variant.",
                413: "Body over the limit.",
                415: "Not announced as application/json.",
                422: "A key or value that cannot be used; the message names both.",
                429: "The queue is full, or what waits takes until the deadline; Retry-After says when to come back.",
                503: "No model is loaded yet, or the server is about to end.",
                504: "The deadline passed before every input had a vote, or no replica answered in time.",
            }.items()
        },
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{PredictRequest.__name__}"}}},
        }
    },
}


@dataclass(frozen=True)
class Prepared:
    """A request that can be run: what the scheduler needs, and what the answer repeats."""

    asked: PredictRequest
    served: ServedVersion
    variant: Variant
    sigma: float
    vote_request: VoteRequest
    began: float


@router.post("/v1/models/{name}/predict", **DOCUMENTED)
async def predict(request: Request, name: str) -> Response:
    """Run each input `votes` times through the newest version and let the runs vote."""
    return await _predict(request, name, None)


@router.post("/v1/models/{name}/versions/{version}/predict", **DOCUMENTED)
async def predict_version(request: Request, name: str, version: str) -> Response:
    """The same on a chosen version."""
    return await _predict(request, name, version)


async def _predict(request: Request, name: str, version: str | None) -> Response:
    with RequestRecord(runtime_of(request).metrics) as record:
        prepared = await read(request, record, name, version)
        with queued(request, record, prepared) as ticket:
            watching = asyncio.create_task(_abandon_when_left(request, ticket))
            try:
                answer = await ticket.answer()
            finally:
                watching.cancel()
            content = respond(prepared, answer)
            record.answers(answer, content["predictions"])
    return Response(orjson.dumps(content), media_type="application/json")


async def _abandon_when_left(request: Request, ticket: VoteTicket) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    ticket.abandon()


@contextmanager
def queued(request: Request, record: RequestRecord, prepared: Prepared) -> Iterator[VoteTicket]:
    """The request in the queue; see `Dispatcher.accepted`."""
    dispatcher = runtime_of(request).dispatcher
    with dispatcher.accepted(prepared.vote_request, prepared.asked.deadline_ms) as ticket:
        record.accepted()
        yield ticket


async def read(
    request: Request, record: RequestRecord, name: str, version: str | None, *, anytime: bool = False
) -> Prepared:
    """Read, check and decode a request; `anytime`: its answer will be looked at before it is complete.

    Raises:
        ServiceError: it cannot be used, or not yet.
    """
    began = time.perf_counter()
    runtime: Runtime = runtime_of(request)
    served = runtime.registry.version(name, version)
    record.serves(served.manifest.name, served.manifest.version)
    body = await read_json_body(request, runtime.settings.max_body_bytes)
    if len(body) > LONG_BODY_BYTES:
        prepared = await asyncio.to_thread(prepare, body, served, runtime.settings, began, anytime=anytime)
    else:
        prepared = prepare(body, served, runtime.settings, began, anytime=anytime)
    record.asks(prepared.vote_request, prepared.asked.stop.rule)
    return prepared


def prepare(body: bytes, served: ServedVersion, settings: Settings, began: float, *, anytime: bool) -> Prepared:
    """Check and decode the body of a request that came at `began`.

    Raises:
        ServiceError: the body cannot be used; the message names key and value.
    """
    try:
        asked = PredictRequest.model_validate(parse_object(body))
    except ValidationError as error:
        raise as_invalid_value(error) from None
    _refuse_too_much(asked, settings)
    sigma = asked.noise_sigma()
    variant = served.variant(asked.variant, asked.noise, sigma, asked.votes, asked.reads)
    manifest = served.manifest
    vote_request = VoteRequest(
        session=served.key(variant),
        inputs=decode_inputs(asked.inputs, manifest.input),
        classes=len(manifest.classes),
        sigma=sigma_row(asked.noise, sigma, asked.reads),
        seed=secrets.randbits(DRAWN_SEED_BITS) if asked.seed is None else asked.seed,
        votes=asked.votes,
        rule=asked.stop.as_rule(),
        priority=asked.priority,
        anytime=anytime or asked.deadline_ms is not None,
        first_vote=asked.first_vote,
    )
    return Prepared(asked, served, variant, sigma, vote_request, began)


def _refuse_too_much(asked: PredictRequest, settings: Settings) -> None:
    inputs = len(asked.inputs)
    if asked.votes > settings.max_votes:
        raise InvalidValueError("votes", f"{asked.votes} is more than {settings.max_votes}, the most allowed here")
    if inputs > settings.max_inputs:
        raise InvalidValueError("inputs", f"{inputs} inputs are more than {settings.max_inputs}, the most allowed here")
    if inputs * asked.votes > settings.queue_rows:
        problem = f"{asked.votes} on each of {inputs} inputs; the queue holds {settings.queue_rows} in all"
        raise InvalidValueError("votes", problem)


def respond(prepared: Prepared, answer: CountedVotes) -> dict[str, Any]:
    """The answer, or how the votes stand."""
    asked, manifest = prepared.asked, prepared.served.manifest
    used = answer.tally.votes_used
    return {
        "model": manifest.name,
        "version": manifest.version,
        "variant": prepared.variant.name,
        "seed": prepared.vote_request.seed,
        "sigma": prepared.sigma,
        "noise": asked.noise,
        "votes": asked.votes,
        "reads": asked.reads,
        "predictions": predictions(prepared, answer),
        "analog_cost": AnalogCost.of(int(used.max()), asked.reads, prepared.variant.layers).model_dump(),
        "timing_ms": {
            "queue": round(1e3 * answer.queue_s, 3),
            "compute": round(1e3 * answer.compute_s, 3),
            "total": round(1e3 * (time.perf_counter() - prepared.began), 3),
        },
    }


def predictions(prepared: Prepared, answer: CountedVotes) -> list[dict[str, Any]]:
    """What the counted votes decide on each input, each having at least one."""
    tally, classes = answer.tally, prepared.served.manifest.classes
    decisions = decide(tally, prepared.asked.alpha)
    request = prepared.vote_request
    met = request.rule.met(tally.histogram, request.votes)
    unfinished = "deadline" if answer.ended else None
    columns = zip(
        decisions.index.tolist(),
        tally.histogram.tolist(),
        tally.votes_used.tolist(),
        tally.mean_probabilities().tolist(),
        decisions.vote_share.tolist(),
        decisions.lower_bound.tolist(),
        decisions.abstain.tolist(),
        answer.complete.tolist(),
        met.tolist(),
        strict=True,
    )
    return [
        {
            "label": classes[index],
            "index": index,
            "histogram": histogram,
            "votes_used": votes_used,
            "mean_probabilities": probabilities,
            "vote_share": share,
            "lower_bound": bound,
            "abstain": abstain,
            "complete": complete,
            "stopped_by": ("rule" if rule else "budget") if complete else unfinished,
        }
        for index, histogram, votes_used, probabilities, share, bound, abstain, complete, rule in columns
    ]
