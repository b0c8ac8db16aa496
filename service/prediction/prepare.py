"""Checks a request against what is served and allowed, and makes it one that can be queued."""

import secrets
from dataclasses import dataclass
from typing import Final

from noisevote.model_store.manifest import Variant
from noisevote.noise_op.contract import sigma_row
from noisevote.service.errors import InvalidValueError
from noisevote.service.models.registry import ServedVersion
from noisevote.service.prediction.options import PredictionRequest, VoteOptions
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.settings import Settings

# Drawn seeds stay exact in clients whose numbers are doubles (JavaScript).
DRAWN_SEED_BITS: Final = 53


@dataclass(frozen=True)
class Prepared:
    """A request that can be queued: what the scheduler needs, and what the answer repeats."""

    options: VoteOptions
    served: ServedVersion
    variant: Variant
    vote_request: VoteRequest


def prepare(asked: PredictionRequest, served: ServedVersion, settings: Settings, *, anytime: bool) -> Prepared:
    """Choose the variant, decode the inputs and draw a seed where none was given.

    Args:
        asked: the request.
        served: the version that it asks for.
        settings: what is allowed.
        anytime: its answer will be looked at before it is complete, so votes go to all inputs alike.

    Raises:
        ServiceError: the request cannot be used; the message names key and value.
    """
    options = asked.options
    refuse_too_much(asked, settings)
    if options.returns == "votes":
        _refuse_too_many_logits(asked, len(served.manifest.classes), settings)
    variant = served.variant(options.variant, options.noise, options.sigma, options.votes, options.reads)
    vote_request = VoteRequest(
        session=served.key(variant),
        inputs=asked.decode(served.manifest.input),
        classes=len(served.manifest.classes),
        sigma=sigma_row(options.noise, options.sigma, options.reads),
        seed=secrets.randbits(DRAWN_SEED_BITS) if options.seed is None else options.seed,
        votes=options.votes,
        rule=options.rule,
        priority=options.priority,
        anytime=anytime or options.deadline_ms is not None,
        first_vote=options.first_vote,
        keeps_votes=options.returns == "votes",
    )
    return Prepared(options, served, variant, vote_request)


def refuse_too_much(asked: PredictionRequest, settings: Settings) -> None:
    """Nothing, where a request keeps the server's limits.

    Raises:
        InvalidValueError: it does not.
    """
    inputs, votes = asked.inputs, asked.options.votes
    if votes > settings.max_votes:
        raise InvalidValueError("votes", f"{votes} is more than {settings.max_votes}, the most allowed here")
    if inputs > settings.max_inputs:
        raise InvalidValueError("inputs", f"{inputs} inputs are more than {settings.max_inputs}, the most allowed here")
    if inputs * votes > settings.queue_rows:
        problem = f"{votes} on each of {inputs} inputs; the queue holds {settings.queue_rows} in all"
        raise InvalidValueError("votes", problem)


def _refuse_too_many_logits(asked: PredictionRequest, classes: int, settings: Settings) -> None:
    logits = asked.inputs * asked.options.votes * classes
    if logits > settings.max_shown_logits:
        problem = f"'votes' of {asked.options.votes} votes on each of {asked.inputs} inputs with {classes} classes"
        raise InvalidValueError("return", f"{problem} are {logits} logits, more than {settings.max_shown_logits} here")
