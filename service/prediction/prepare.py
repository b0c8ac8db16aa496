"""Checks a request against what is served and allowed, and makes it one that can be queued."""

import secrets
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.model_store.manifest import PrecisionChoice, Variant
from noisevote.noise_op.contract import sigma_row
from noisevote.service.errors import InvalidValueError
from noisevote.service.models.registry import AUTO, ServedVersion
from noisevote.service.prediction.options import InputRun, PredictionRequest, VoteOptions
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.settings import Settings

# Drawn seeds stay exact in clients whose numbers are doubles (JavaScript).
DRAWN_SEED_BITS: Final = 53
SEEDS: Final = 2**64


@dataclass(frozen=True)
class Prepared:
    """A request that can be queued: what the scheduler needs, what the answer repeats, and what its protocol noted."""

    options: VoteOptions
    served: ServedVersion
    variant: Variant
    vote_request: VoteRequest
    note: object = None


def prepare(
    asked: PredictionRequest, served: ServedVersion, settings: Settings, *, anytime: bool
) -> tuple[Prepared, ...]:
    """Choose variants, decode the inputs and draw a seed where none was given; one result for each of the runs.

    Args:
        asked: the request.
        served: the version that it asks for.
        settings: what is allowed.
        anytime: its answer will be looked at before it is complete, so votes go to all inputs alike.

    Raises:
        ServiceError: the request cannot be used; the message names key and value.
    """
    refuse_too_much(asked, settings)
    variants = [chosen_variant(served, run.options, settings.precision) for run in asked.runs]
    if any(run.options.returns == "votes" for run in asked.runs):
        _refuse_too_many_logits(asked, len(served.manifest.classes), settings)
    inputs = asked.decode(served.manifest.input)
    drawn = secrets.randbits(DRAWN_SEED_BITS)
    prepared = []
    for run, variant in zip(asked.runs, variants, strict=True):
        request = _vote_request(run, served, variant, inputs, drawn, anytime=anytime)
        prepared.append(Prepared(run.options, served, variant, request, asked.note))
    return tuple(prepared)


def _vote_request(
    run: InputRun, served: ServedVersion, variant: Variant, inputs: NDArray[np.float32], drawn: int, *, anytime: bool
) -> VoteRequest:
    options = run.options
    seed = drawn if options.seed is None else options.seed
    return VoteRequest(
        session=served.key(variant),
        inputs=inputs[run.start : run.stop],
        classes=len(served.manifest.classes),
        sigma=sigma_row(options.noise, options.sigma, options.reads),
        seed=(seed + run.start - run.origin) % SEEDS,
        votes=options.votes,
        rule=options.rule,
        priority=options.priority,
        anytime=anytime or options.deadline_ms is not None,
        first_vote=options.first_vote,
        keeps_votes=options.returns == "votes",
    )


def chosen_variant(served: ServedVersion, options: VoteOptions, usual: PrecisionChoice) -> Variant:
    """The variant that a request gets, where `auto` computes in the precision `usual` unless the request says another.

    Raises:
        UnknownVariantError: it names one that does not exist or is not served.
        InvalidValueError: nothing is served in its precision.
    """
    if options.variant != AUTO:
        named = served.named(options.variant)
        return named if options.precision is None else served.computed(named, options.precision)
    noise = (options.noise, options.sigma, options.votes, options.reads)
    return served.best(*noise, options.precision or usual)


def refuse_too_much(asked: PredictionRequest, settings: Settings) -> None:
    """Nothing, where a request keeps the server's limits.

    Raises:
        InvalidValueError: it does not.
    """
    votes = max(run.options.votes for run in asked.runs)
    if votes > settings.max_votes:
        raise InvalidValueError("votes", f"{votes} is more than {settings.max_votes}, the most allowed here")
    if asked.inputs > settings.max_inputs:
        problem = f"{asked.inputs} inputs are more than {settings.max_inputs}, the most allowed here"
        raise InvalidValueError("inputs", problem)
    if asked.votes > settings.queue_rows:
        problem = f"{votes} on each of {asked.inputs} inputs; the queue holds {settings.queue_rows} in all"
        raise InvalidValueError("votes", problem)


def _refuse_too_many_logits(asked: PredictionRequest, classes: int, settings: Settings) -> None:
    logits = asked.votes * classes
    if logits > settings.max_shown_logits:
        problem = f"'votes' of {asked.votes} votes on {asked.inputs} inputs with {classes} classes"
        raise InvalidValueError("return", f"{problem} are {logits} logits, more than {settings.max_shown_logits} here")
