"""`POST …/predict`: inputs in, votes out."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from operator import itemgetter
from typing import Any, Final

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from noisevote.service.prediction.answer import Answer
from noisevote.service.prediction.options import RETURNS, Returns
from noisevote.service.prediction.prepare import Prepared
from noisevote.service.prediction.top_classes import top_classes
from noisevote.service.rest.disconnection import abandoned_when_left
from noisevote.service.rest.edge import visit_of
from noisevote.service.rest.json_answer import JsonAnswer
from noisevote.service.rest.v1.answer_schemas import (
    InputWithVotes,
    LabelledInput,
    LabelResponse,
    PredictResponse,
    TopInput,
    VotedInput,
    shown_cost,
)
from noisevote.service.rest.v1.answer_schemas import Prediction as PredictionBody
from noisevote.service.rest.v1.documented import reads, refusals
from noisevote.service.rest.v1.parse import parse
from noisevote.service.rest.v1.query import read_whole_request
from noisevote.service.rest.v1.schemas import PredictRequest
from noisevote.service.rest.v1.stop_schemas import shown_rule
from noisevote.service.runtime import runtime_of
from noisevote.voting.tally import KeptVotes, Tally

router = APIRouter(tags=["predict"])
# Keys of a prediction by what of it is shown.
SHOWN: Final[Mapping[Returns, tuple[str, ...]]] = {
    "label": tuple(LabelledInput.model_fields),
    "histogram": tuple(VotedInput.model_fields),
    "probabilities": tuple(PredictionBody.model_fields),
    "votes": tuple(InputWithVotes.model_fields),
}
REFUSALS: Final = refusals(
    {
        400: "Not JSON, or not the gzip that it is announced as.",
        403: "The model's policy does not allow it; the message names the key.",
        404: "Unknown model, version or variant.",
        408: "The body did not arrive in time.",
        413: "Body over the limit, in bytes or in values.",
        415: "Not announced as application/json, or encoded otherwise than by gzip.",
        422: "A key or value that cannot be used; the message names both.",
        429: "The queue is full, or what waits takes until the deadline; Retry-After says when to come back.",
        503: "No model is loaded yet, the server is about to end, or it cannot hold the body now.",
        504: "The deadline passed before every input had a vote, or no replica answered in time.",
    }
)
DOCUMENTED: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: {
            "model": PredictResponse | LabelResponse,
            "description": "The decision on each input, in the order of the inputs.",
        },
        **REFUSALS,
    },
    "openapi_extra": reads(PredictRequest),
}


@router.post("/v1/models/{name}/predict", **DOCUMENTED)
async def predict(request: Request, name: str) -> Response:
    """Run each input `votes` times through the newest version and let the runs vote."""
    return await _predict(request, name, None)


@router.post("/v1/models/{name}/versions/{version}/predict", **DOCUMENTED)
async def predict_version(request: Request, name: str, version: str) -> Response:
    """The same on a chosen version."""
    return await _predict(request, name, version)


async def _predict(request: Request, name: str, version: str | None) -> Response:
    began = time.perf_counter()
    runtime = runtime_of(request)
    read = partial(read_whole_request, request, runtime.settings.max_body_bytes, PredictRequest)
    async with (
        runtime.predictor.accept(name, version, read, parse, visit_of(request), returns=RETURNS) as prediction,
        abandoned_when_left(request, prediction),
    ):
        content = respond(prediction.prepared, await prediction.answer(), began)
    return JsonAnswer(as_json(content))


def as_json(content: dict[str, Any]) -> bytes:
    """An answer, or an event of one."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def respond(prepared: Prepared, answer: Answer, began: float) -> dict[str, Any]:
    """The answer to a request that came at `began`, seconds of the performance counter.

    With the label alone nothing else depends on the votes: costs are those of the budget, times are left out, and a
    seed that was drawn, by which whoever has the file would recompute the votes.
    """
    options, manifest, counted = prepared.options, prepared.served.manifest, answer.counted
    label_alone = options.returns == "label"
    most_votes = options.votes if label_alone else max(answer.decisions.votes_used.tolist())
    content = {
        "model": manifest.name,
        "version": manifest.version,
        "variant": prepared.variant.name,
        "sha256": prepared.variant.sha256,
        "operator": manifest.operator_version(prepared.variant),
        "seed": prepared.vote_request.seed,
        "first_vote": options.first_vote,
        "sigma": options.sigma,
        "noise": options.noise,
        "votes": options.votes,
        "reads": options.reads,
        "stop": shown_rule(options.rule),
        "alpha": options.alpha,
        "predictions": predictions(prepared, answer),
        "analog_cost": shown_cost(most_votes, options.reads, prepared.variant.layers),
        "timing_ms": {
            "queue": round(1e3 * counted.queue_s, 3),
            "compute": round(1e3 * counted.compute_s, 3),
            "total": round(1e3 * (time.perf_counter() - began), 3),
        },
    }
    if label_alone:
        del content["timing_ms"]
        if options.seed is None:
            del content["seed"]
    return content


def predictions(prepared: Prepared, answer: Answer) -> list[dict[str, Any]]:
    """What is said about each input, as far as the request wants it shown."""
    shown = SHOWN[prepared.options.returns]
    said = _counted(prepared, answer)
    if answer.counted.tally.kept is not None:
        for each, votes in zip(said, _votes(prepared, answer.counted.tally.kept), strict=True):
            each["votes"] = votes
    if prepared.options.top_k is None or ("mean_probabilities" not in shown and "histogram" not in shown):
        return [dict(zip(shown, itemgetter(*shown)(each), strict=True)) for each in said]
    leading = _leading(prepared, answer.counted.tally, prepared.options.top_k)
    return [{key: (each | top)[key] for key in TopInput.model_fields} for each, top in zip(said, leading, strict=True)]


def _leading(prepared: Prepared, tally: Tally, count: int) -> Iterator[dict[str, Any]]:
    """The classes with most votes on each input."""
    classes, with_means = prepared.served.manifest.classes, prepared.options.returns != "histogram"
    means = tally.mean_probabilities()
    for place, leading in enumerate(top_classes(tally, count).tolist()):
        named = [
            {"label": classes[index], "index": index, "votes": int(tally.histogram[place, index])} for index in leading
        ]
        if with_means:
            named = [each | {"mean_probability": float(means[place, each["index"]])} for each in named]
        yield {"top": named}


def _votes(prepared: Prepared, kept: KeptVotes) -> Iterator[list[dict[str, Any]]]:
    """The votes on each input; logits are left as arrays, which orjson writes as the float32 that they are."""
    classes, first = prepared.served.manifest.classes, prepared.options.first_vote
    for cast, indices, logits in zip(kept.cast, kept.classes.tolist(), kept.logits, strict=True):
        yield [
            {"vote": first + place, "label": classes[indices[place]], "index": indices[place], "logits": logits[place]}
            for place in np.flatnonzero(cast).tolist()
        ]


def _counted(prepared: Prepared, answer: Answer) -> list[dict[str, Any]]:
    tally, decisions, classes = answer.counted.tally, answer.decisions, prepared.served.manifest.classes
    columns = zip(
        decisions.index.tolist(),
        tally.histogram.tolist(),
        decisions.votes_used.tolist(),
        tally.mean_probabilities(decisions.votes_used).tolist(),
        decisions.vote_share.tolist(),
        decisions.lower_bound.tolist(),
        decisions.abstain.tolist(),
        answer.counted.complete.tolist(),
        answer.stopped_by(),
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
            "stopped_by": stopped_by,
        }
        for index, histogram, votes_used, probabilities, share, bound, abstain, complete, stopped_by in columns
    ]
