"""`POST …/certify` and `…/certify/stream`: inputs in, radii out within which their decisions hold."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import ValidationError

from noisevote.service.errors import InvalidValueError, ServiceError
from noisevote.service.prediction.certify import Certification, InputCertificate
from noisevote.service.prediction.certify_options import CertifyRequest
from noisevote.service.rest.disconnection import abandoned_when_left
from noisevote.service.rest.edge import visit_of
from noisevote.service.rest.json_body import JsonLimits, parse_object
from noisevote.service.rest.v1.certify_schemas import CertifyBody, CertifyResponse
from noisevote.service.rest.v1.documented import reads
from noisevote.service.rest.v1.events import error_event, event, streamed
from noisevote.service.rest.v1.predict import REFUSALS
from noisevote.service.rest.v1.query import read_whole_request
from noisevote.service.runtime import runtime_of
from noisevote.service.settings import Settings
from noisevote.service.validation import as_invalid_value

router = APIRouter(tags=["certify"])
DOCUMENTED: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: {"model": CertifyResponse, "description": "The certificate of each input, in the order of the inputs."},
        **REFUSALS,
    },
    "openapi_extra": reads(CertifyBody),
}
STREAMED: Final[dict[str, Any]] = {**DOCUMENTED, "response_class": EventSourceResponse, "responses": REFUSALS}


@dataclass(frozen=True)
class Accepted:
    """An accepted request, and when it came in seconds of the performance counter."""

    certification: Certification
    began: float


@router.post("/v1/models/{name}/certify", **DOCUMENTED)
async def certify(request: Request, name: str) -> Response:
    """Certify the decision on each input by votes under noise that nobody chose."""
    return await _certify(request, name, None)


@router.post("/v1/models/{name}/versions/{version}/certify", **DOCUMENTED)
async def certify_version(request: Request, name: str, version: str) -> Response:
    """The same on a chosen version."""
    return await _certify(request, name, version)


async def _certify(request: Request, name: str, version: str | None) -> Response:
    began, runtime = time.perf_counter(), runtime_of(request)
    read = partial(read_whole_request, request, runtime.settings.max_body_bytes, CertifyBody)
    async with (
        runtime.certifier.accept(name, version, read, parse, visit_of(request)) as certification,
        abandoned_when_left(request, certification),
    ):
        await certification.certificates()
        content = respond(certification, began)
    return Response(orjson.dumps(content), media_type="application/json")


async def acceptance(request: Request, name: str, version: str | None = None) -> AsyncIterator[Accepted]:
    """Read and check the request; however its stream ends, what is not yet computed then is dropped."""
    began, runtime = time.perf_counter(), runtime_of(request)
    read = partial(read_whole_request, request, runtime.settings.max_body_bytes, CertifyBody)
    async with runtime.certifier.accept(name, version, read, parse, visit_of(request), stream=True) as certification:
        with streamed(certification):
            yield Accepted(certification, began)


Queued = Annotated[Accepted, Depends(acceptance)]


@router.post("/v1/models/{name}/certify/stream", **STREAMED)
async def stream(accepted: Queued) -> AsyncIterator[ServerSentEvent]:
    """`…/certify`, told while the votes are cast."""
    async for each in _events(accepted):
        yield each


@router.post("/v1/models/{name}/versions/{version}/certify/stream", **STREAMED)
async def stream_version(accepted: Queued) -> AsyncIterator[ServerSentEvent]:
    """The same on a chosen version."""
    async for each in _events(accepted):
        yield each


async def _events(accepted: Accepted) -> AsyncIterator[ServerSentEvent]:
    certification = accepted.certification
    try:
        async for standing in certification.progress():
            shown = {"input": standing.input, **shown_certificate(certification, standing)}
            yield event("votes", {"certificates": [shown]})
        yield event("answer", respond(certification, accepted.began))
    except ServiceError as error:
        yield error_event(certification, error)


def parse(body: bytes, settings: Settings) -> CertifyRequest:
    """What a body asks for.

    Raises:
        ServiceError: the body cannot be used; the message names key and value.
    """
    given = parse_object(body, JsonLimits.of(settings))
    if given.get("seed") is not None:
        raise InvalidValueError("seed", "the noise of a certificate is nobody's choice: file, input and nonce make it")
    try:
        return CertifyBody.model_validate(given).as_certify_request()
    except ValidationError as error:
        raise as_invalid_value(error) from None


def respond(certification: Certification, began: float) -> dict[str, Any]:
    """The answer to a request that came at `began`, seconds of the performance counter."""
    prepared = certification.prepared
    asked, manifest, variant = prepared.asked, prepared.served.manifest, prepared.variant
    total, queue = 1e3 * (time.perf_counter() - began), 1e3 * certification.queue_s
    return {
        "model": manifest.name,
        "version": manifest.version,
        "variant": variant.name,
        "sha256": variant.sha256,
        "operator": manifest.operator_version(variant),
        "sigma": prepared.sigma,
        "alpha": asked.alpha,
        "n0": asked.n0,
        "n": asked.n,
        "rule": asked.rule,
        "radius_asked": asked.radius,
        "nonce": prepared.nonce,
        "certificates": [shown_certificate(certification, each) for each in certification.ended],
        "timing_ms": {"queue": round(queue, 3), "compute": round(total - queue, 3), "total": round(total, 3)},
    }


def shown_certificate(certification: Certification, standing: InputCertificate) -> dict[str, Any]:
    """What is said about an input."""
    classes, found = certification.prepared.served.manifest.classes, standing.found
    return {
        "index": standing.index,
        "label": None if standing.index is None else classes[standing.index],
        "radius": found.radius,
        "abstain": found.abstain,
        "lower_bound": found.lower_bound,
        "count": found.count,
        "votes_used": found.trials,
        "first_vote": certification.prepared.asked.n0,
        "seed": standing.seed,
        "stopped_by": standing.stopped_by,
    }
