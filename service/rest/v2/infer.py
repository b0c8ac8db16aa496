"""`POST …/infer`: tensors in, outputs of the vote out."""

import zlib
from functools import partial
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from noisevote.service.open_inference.datatypes import packed
from noisevote.service.open_inference.outputs import SHOWN, Answered, Output, outputs_of, repeating
from noisevote.service.open_inference.request import Note
from noisevote.service.prediction.handle import Prediction, Reading
from noisevote.service.rest.body import PACKED, read_body
from noisevote.service.rest.disconnection import abandoned_when_left
from noisevote.service.rest.edge import visit_of
from noisevote.service.rest.v2.documented import reads, refusals
from noisevote.service.rest.v2.parse import HEADER_LENGTH, header_length, parse, parsed_bytes
from noisevote.service.rest.v2.schemas import InferRequest, InferResponse
from noisevote.service.runtime import runtime_of

router = APIRouter(tags=["open inference protocol"])
BINARY: Final = "application/octet-stream"
JSON: Final = "application/json"
# Shorter answers are sent as they are to whoever accepts packed ones: packing would take longer than sending.
PACKED_BYTES: Final = 1024
LEVEL: Final = 1
DOCUMENTED: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: {
            "model": InferResponse,
            "description": f"The outputs; with binary ones, {BINARY} of which {HEADER_LENGTH} bytes are the object.",
            "content": {BINARY: {}},
        },
        **refusals(
            {
                400: "Not JSON, or not what its encoding says.",
                403: "The model's policy does not allow it; the message names the key.",
                404: "Unknown model, version or variant.",
                408: "The body did not arrive in time.",
                413: "Body over the limit, in bytes or in values.",
                415: "Encoded otherwise than by gzip or deflate.",
                422: "A key or value that cannot be used; the message names both.",
                429: "The queue is full, or what waits takes until the deadline; Retry-After says when to come back.",
                503: "No model is loaded yet, the server is about to end, or it cannot hold the body now.",
                504: "The deadline passed before every input had a vote, or no replica answered in time.",
            }
        ),
    },
    "openapi_extra": reads(InferRequest, BINARY),
}


@router.post("/v2/models/{name}/infer", **DOCUMENTED)
async def infer(request: Request, name: str) -> Response:
    """Run each input through the newest version and let the runs vote."""
    return await _infer(request, name, None)


@router.post("/v2/models/{name}/versions/{version}/infer", **DOCUMENTED)
async def infer_version(request: Request, name: str, version: str) -> Response:
    """The same on a chosen version."""
    return await _infer(request, name, version)


class _Abandonable:
    """All runs of a request."""

    def __init__(self, runs: list[Prediction]) -> None:
        self._runs = runs

    def abandon(self) -> None:
        """Drop what is not yet computed."""
        for run in self._runs:
            run.abandon()


async def _infer(request: Request, name: str, version: str | None) -> Response:
    runtime = runtime_of(request)
    length = header_length(request.headers.get(HEADER_LENGTH))
    reading = Reading(
        partial(read_body, request, runtime.settings.max_body_bytes, PACKED),
        partial(parse, length=length),
        partial(parsed_bytes, length=length),
    )
    accepted = runtime.predictor.accept_runs(name, version, reading, visit_of(request), SHOWN)
    async with accepted as runs, abandoned_when_left(request, _Abandonable(runs)):
        answered = [(run.prepared, await run.answer()) for run in runs]
        content, headers = written(answered)
    return _packed(content, headers, request.headers.get("accept-encoding", ""))


def written(answered: Answered) -> tuple[bytes, dict[str, str]]:
    """The body of an answer, and its headers."""
    prepared = answered[0][0]
    note = prepared.note
    assert isinstance(note, Note)
    outputs = outputs_of(answered, note.outputs, binary=note.binary)
    content: dict[str, Any] = {
        **({} if note.id is None else {"id": note.id}),
        "model_name": prepared.served.manifest.name,
        "model_version": prepared.served.manifest.version,
        "parameters": repeating(answered),
    }
    after = [packed(output.values) if output.binary else b"" for output in outputs]
    content["outputs"] = [_tensor(output, len(raw)) for output, raw in zip(outputs, after, strict=True)]
    head = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    if not any(output.binary for output in outputs):
        return head, {"content-type": JSON}
    return b"".join((head, *after)), {"content-type": BINARY, HEADER_LENGTH: str(len(head))}


def _tensor(output: Output, size: int) -> dict[str, Any]:
    tensor: dict[str, Any] = {"name": output.name, "shape": output.shape, "datatype": output.datatype}
    if output.binary:
        return tensor | {"parameters": {"binary_data_size": size}}
    values = output.values
    return tensor | {"data": [each.decode() for each in values] if isinstance(values, list) else values.ravel()}


def _packed(content: bytes, headers: dict[str, str], accepted: str) -> Response:
    """The answer, packed where the client accepts that and there is something to be gained."""
    coding = _coding(accepted) if len(content) >= PACKED_BYTES else None
    if coding is not None:
        packing = zlib.compressobj(LEVEL, wbits=PACKED[coding])
        content = packing.compress(content) + packing.flush()
        headers |= {"content-encoding": coding}
    return Response(content, headers=headers | {"vary": "accept-encoding"})


def _coding(accepted: str) -> str | None:
    """The first encoding that a client accepts and that we write."""
    for each in accepted.lower().split(","):
        coding, _, quality = each.partition(";")
        if coding.strip() in PACKED and quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            return coding.strip()
    return None
