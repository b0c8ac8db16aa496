"""`POST …/plan`: the noise and a goal in, the variant, votes and reads to run out."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from noisevote.model_store import analog_cost, planning
from noisevote.model_store.accuracy_table import AccuracyTable, accuracy_table
from noisevote.model_store.manifest import Variant
from noisevote.model_store.planning import LatencyBudget, Plan, Planning, ProductBudget, Question, TargetAccuracy
from noisevote.service.errors import BodyTooLargeError, InvalidValueError, UnknownVariantError
from noisevote.service.models.registry import ServedVersion
from noisevote.service.prediction.policy import Policy
from noisevote.service.rest.json_body import JsonLimits, read_object
from noisevote.service.rest.v1.answer_schemas import AnalogCost
from noisevote.service.rest.v1.documented import reads, refusals
from noisevote.service.rest.v1.plan_schemas import (
    MOST_VOTES,
    MeasuredPoint,
    PlanEntry,
    PlanRequest,
    PlanResponse,
    Searched,
)
from noisevote.service.rest.v1.query import read_whole_request
from noisevote.service.runtime import runtime_of
from noisevote.service.settings import Settings
from noisevote.service.validation import shown
from noisevote.voting.bounds import least_votes_to_decide

router = APIRouter(tags=["plan"])
# Many times what a question with the names of all variants takes.
LONGEST_BODY: Final = 16 * 1024
DOCUMENTED: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: {"model": PlanResponse, "description": "The plan, or the nearest one where none meets the goal."},
        **refusals(
            {
                400: "Not JSON, or not the gzip that it is announced as.",
                403: "The model's policy does not allow it; the message names the key.",
                404: "Unknown model, version or variant.",
                408: "The body did not arrive in time.",
                413: f"Body over the limit, or over {LONGEST_BODY} bytes.",
                415: "Not announced as application/json, or encoded otherwise than by gzip.",
                422: "A key or value that cannot be used; the message names both.",
                503: "No model is loaded yet, or the server cannot hold the body now.",
            }
        ),
    },
    "openapi_extra": reads(PlanRequest),
}


@router.post("/v1/models/{name}/plan", **DOCUMENTED)
async def plan(request: Request, name: str) -> Response:
    """The cheapest variant, votes and reads that reach an accuracy, or the most accurate within a budget."""
    return await _plan(request, name, None)


@router.post("/v1/models/{name}/versions/{version}/plan", **DOCUMENTED)
async def plan_version(request: Request, name: str, version: str) -> Response:
    """The same on a chosen version."""
    return await _plan(request, name, version)


async def _plan(request: Request, name: str, version: str | None) -> Response:
    runtime = runtime_of(request)
    policy = runtime.policies.of(name)
    if policy is not None:
        version = policy.version("plan", version)
    served = runtime.registry.version(name, version)
    body = await _read(request, runtime.settings.max_body_bytes)
    # Comparing a hundred thousand plans takes milliseconds; the event loop has votes to count meanwhile.
    answer = await asyncio.to_thread(respond, body, served, runtime.settings, policy)
    return Response(orjson.dumps(answer.model_dump()), media_type="application/json")


async def _read(request: Request, most: int) -> bytes:
    """The body, of as many bytes as a question may have, and as any body may."""
    if most < LONGEST_BODY:
        return await read_whole_request(request, most, PlanRequest)
    try:
        return await read_whole_request(request, LONGEST_BODY, PlanRequest)
    except BodyTooLargeError as error:
        raise BodyTooLargeError(LONGEST_BODY, error.announced, "no question is longer") from None


def respond(body: bytes, served: ServedVersion, settings: Settings, policy: Policy | None = None) -> PlanResponse:
    """The answer to a body.

    Raises:
        ServiceError: the body cannot be used; the message names key and value.
    """
    asked = read_object(PlanRequest, body, JsonLimits.of(settings))
    asked = asked if policy is None else asked.under(policy.planned)
    sigma, goal = asked.noise_sigma(), asked.goal()
    if asked.max_votes is not None and asked.max_votes > settings.max_votes:
        raise InvalidValueError(
            "max_votes", f"{asked.max_votes} is more than {settings.max_votes}, the most allowed here"
        )
    variants = _variants(asked.variants, served)
    found_tables = (accuracy_table(variant, asked.noise, sigma) for variant in variants)
    tables = [table for table in found_tables if table is not None]
    measured = max((table.votes[-1] for table in tables), default=1)
    question = Question(
        noise=asked.noise,
        sigma=sigma,
        goal=goal,
        most_votes=asked.max_votes or min(measured, MOST_VOTES, settings.max_votes),
        most_reads=asked.max_reads,
        by=asked.by,
        alpha=asked.alpha,
    )
    found = planning.plan(variants, question)
    return _answer(served, variants, question, found, _reason(variants, tables, question, found))


def _variants(names: Sequence[str] | None, served: ServedVersion) -> list[Variant]:
    """The served variants of these names; by default those in float32, as int8 is a way to compute one."""
    by_name = {variant.name: variant for variant in served.variants}
    for i, name in enumerate(names or ()):
        if name in served.refused:
            raise UnknownVariantError(f"variants[{i}]: {shown(name)} is refused: {served.refused[name]}")
        if name not in by_name:
            raise UnknownVariantError(f"variants[{i}]: {shown(name)} is not one of {', '.join(by_name)}")
    floats = [variant.name for variant in served.variants if variant.precision == "float32"]
    return [by_name[name] for name in dict.fromkeys(names or floats or by_name)]


def _reason(
    variants: Sequence[Variant], tables: Sequence[AccuracyTable], question: Question, found: Planning
) -> str | None:
    """Why the goal is not met, naming key and value."""
    if found.feasible:
        return None
    if not tables:
        names = ", ".join(variant.name for variant in variants)
        return f"noise: nothing is measured of {names} under {question.noise} noise"
    if found.best is None:
        sigmas = [sigma for table in tables for sigma in table.sigmas]
        votes = [count for table in tables for count in table.votes]
        asked = f"sigma: {question.sigma} with up to {question.most_reads} reads and {question.most_votes} votes"
        measured = f"sigma/√reads {min(sigmas)} … {max(sigmas)}, votes {min(votes)} … {max(votes)}"
        return f"{asked} lies outside of what is measured: {measured}"
    best, goal = found.best, question.goal
    match goal:
        case TargetAccuracy():
            accuracy = (
                best.estimate.accuracy if question.by == "estimate" else best.estimate.lower_bound(question.alpha)
            )
            return f"accuracy: {goal.accuracy} is above the {accuracy:.6g} ({question.by}) of the best known plan"
        case ProductBudget():
            cost = analog_cost.products(best.votes, best.reads, best.variant.layers)
            return f"products: {goal.products} is below the {cost} of the cheapest known plan"
        case LatencyBudget():
            cost = analog_cost.latency(goal.execution, best.votes, best.reads, best.variant.layers)
            return f"layer_times: {goal.layer_times} is below the {cost} of the fastest known plan, {goal.execution}"


def _answer(
    served: ServedVersion, variants: Sequence[Variant], question: Question, found: Planning, reason: str | None
) -> PlanResponse:
    best = None if found.best is None else _entry(found.best, question)
    chosen = best if found.feasible else None
    target = question.goal.accuracy if isinstance(question.goal, TargetAccuracy) else None
    return PlanResponse(
        model=served.manifest.name,
        version=served.manifest.version,
        sigma=question.sigma,
        noise=question.noise,
        goal=vars(question.goal),
        by=question.by,
        alpha=question.alpha,
        feasible=found.feasible,
        assured=None if chosen is None or target is None else chosen.lower_bound >= target,
        reason=reason,
        plan=chosen,
        nearest=None if found.feasible else best,
        cheaper=None if found.cheaper is None else _entry(found.cheaper, question),
        least_votes_to_decide=least_votes_to_decide(question.alpha),
        runner_ups=[_entry(each, question) for each in found.runner_ups],
        searched=Searched(
            variants=[variant.name for variant in variants],
            votes=question.most_votes,
            reads=question.most_reads,
            known=found.known,
            outside=found.outside,
        ),
    )


def _entry(found: Plan, question: Question) -> PlanEntry:
    estimate = found.estimate
    return PlanEntry(
        variant=found.variant.name,
        votes=found.votes,
        reads=found.reads,
        accuracy=estimate.accuracy,
        standard_error=estimate.standard_error,
        lower_bound=estimate.lower_bound(question.alpha),
        known="measured" if len(estimate.points) == 1 else "interpolated",
        points=[MeasuredPoint(**vars(point)) for point in estimate.points],
        analog_cost=AnalogCost.of(found.votes, found.reads, found.variant.layers),
    )
