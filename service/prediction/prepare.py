"""Checks a request against what is served and allowed, and makes it one that can be queued."""

import secrets
from dataclasses import dataclass
from typing import Final

from noisevote.model_store.manifest import PrecisionChoice, Variant
from noisevote.noise_op.contract import sigma_row
from noisevote.service.errors import InvalidValueError
from noisevote.service.models.registry import AUTO, ServedVersion
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
    variant = chosen_variant(served, options, settings.precision)
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
    )
    return Prepared(options, served, variant, vote_request)


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
    inputs, votes = asked.inputs, asked.options.votes
    if votes > settings.max_votes:
        raise InvalidValueError("votes", f"{votes} is more than {settings.max_votes}, the most allowed here")
    if inputs > settings.max_inputs:
        raise InvalidValueError("inputs", f"{inputs} inputs are more than {settings.max_inputs}, the most allowed here")
    if inputs * votes > settings.queue_rows:
        problem = f"{votes} on each of {inputs} inputs; the queue holds {settings.queue_rows} in all"
        raise InvalidValueError("votes", problem)
