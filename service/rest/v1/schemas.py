"""The body of a request to `…/predict`: its schema is what is enforced."""

from functools import partial
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field

from noisevote.model_store.manifest import PrecisionChoice
from noisevote.noise_op.contract import NoiseKind
from noisevote.service.errors import InvalidValueError
from noisevote.service.prediction.inputs import decode_inputs
from noisevote.service.prediction.option_keys import (
    NOISE_KEYS,
    DeadlineMs,
    FirstVote,
    Priority,
    Probability,
    Reads,
    Seed,
    Sigma,
    SnrDb,
    TopK,
    Votes,
)
from noisevote.service.prediction.options import PredictionRequest, Returns, VoteOptions, given_sigma
from noisevote.service.rest.v1.stop_schemas import ConfidenceStop, FixedStop, Stop
from noisevote.service.validation import RequestBody

DEFAULTS: Final = VoteOptions()

# The first digit of MNIST's test set, a seven (examples/digit-7.png).
DIGIT_7: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAAwUlEQVR42mNgGDaAEUKFpD77sfTFHeyS9xQYGBg+X4UKPuk6w8DAwMDAAuGm6l/T"
    "MnSweCzLwPDntSTDozPIOhkYGBgYBA3PmDIw/Lh1XShnGi5nBP+9KIRLTuzl/2AokwlDMlv0/U1cGq1//rPD6fHWf7tZcclxnv1hhVNj3b9tOOW8"
    "f3+wxCUnfPffMlxyzKf/3VbGJan2758vLjn5B/+KGXF78Z8JLjnbT+iSSGFrw8Nw9wuKJAsy56LzO+ITGABpETyQcCy90wAAAABJRU5ErkJggg=="
)


# Only documented by their type: service/prediction/inputs.py checks and decodes them in whole arrays.
Inputs = Annotated[
    list[Any],
    Field(
        min_length=1,
        json_schema_extra={
            "items": {
                "anyOf": [
                    {"$ref": "#/components/schemas/RawInput"},
                    {"$ref": "#/components/schemas/ImageInput"},
                    {"type": "array", "items": {}, "title": "Nested numbers of the model's input shape"},
                ]
            }
        },
    ),
]


class PredictRequest(RequestBody):
    """Inputs, the noise that they meet, and how often they are run."""

    never_null = NOISE_KEYS
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"inputs": [{"image": DIGIT_7}], "sigma": 0.5, "votes": 20, "seed": 7}],
        }
    )

    inputs: Inputs
    """each is nested numbers of the model's input shape, raw bytes, or an image file"""
    sigma: Sigma = None
    """standard deviation of the noise: relative to the signal (multiplicative) or absolute (additive);
    without `sigma` and `snr_db` there is no noise (0)"""
    snr_db: SnrDb = None
    """instead of sigma: −20·log10(sigma)"""
    noise: NoiseKind = DEFAULTS.noise
    """noise kind"""
    votes: Votes = DEFAULTS.votes
    """runs of the network that vote on each input, up to the server's limit"""
    reads: Reads = DEFAULTS.reads
    """reads of each analog product that are averaged: exactly noise of sigma/√reads"""
    seed: Seed | None = None
    """input i draws with seed + i modulo 2⁶⁴; a missing seed is drawn and returned"""
    first_vote: FirstVote = DEFAULTS.first_vote
    """number of each input's first vote: requests for votes 0 … 9 and 10 … 19 of a seed add up to one for all 20"""
    stop: Stop = FixedStop(rule="fixed")
    """when an input has votes enough; `votes` is the budget in any case"""
    alpha: Probability = DEFAULTS.alpha
    """error probability of `lower_bound` and `abstain`"""
    deadline_ms: DeadlineMs | None = None
    """answer so long after acceptance with the votes counted so far, `complete: false` where some are missing"""
    priority: Priority = DEFAULTS.priority
    """share of the server beside other waiting requests: one of priority 4 gets four rows where one of 1 gets one"""
    variant: str = DEFAULTS.variant
    """name of a variant, or `auto`: the one whose measured accuracy is best for this noise and these votes"""

    precision: PrecisionChoice | None = None
    """what the products are computed in: float32, int8 (the twin of the variant that `variant` chooses; it is accurate
    to 0.1 points, and gives the same answer on every processor), or any: whichever is faster on this server. Without it
    a named variant's own, and the server's setting for `auto`"""

    returns: Annotated[Returns, Field(alias="return")] = DEFAULTS.returns
    """how much of the votes the answer shows: the label alone, votes per class and what follows from them, their mean
    probabilities too, or each vote too"""
    top_k: TopK | None = None
    """name the so many leading classes in `top`, instead of votes and probabilities of all classes"""
    preprocess: bool = DEFAULTS.preprocess
    """make inputs of images of any size as the model's manifest declares: resized, cut out, normalised"""

    def as_prediction_request(self) -> PredictionRequest:
        """The same for all protocols.

        Raises:
            InvalidValueError: sigma was given twice, or `top_k` beside what shows no classes or all.
        """
        if self.top_k is not None and self.returns in {"label", "votes"}:
            shown = "nothing of other classes" if self.returns == "label" else "all classes"
            raise InvalidValueError("top_k", f"{self.top_k} beside return {self.returns}, which shows {shown}")
        options = VoteOptions(
            sigma=given_sigma(self.sigma, self.snr_db) or 0.0,
            noise=self.noise,
            votes=self.votes,
            reads=self.reads,
            seed=self.seed,
            first_vote=self.first_vote,
            rule=self.stop.as_rule(),
            alpha=self.alpha,
            deadline_ms=self.deadline_ms,
            priority=self.priority,
            variant=self.variant,
            precision=self.precision,
            returns=self.returns,
            top_k=self.top_k,
            preprocess=self.preprocess,
        )
        given = frozenset(self.model_fields_set)
        if "returns" in given:
            given = given - {"returns"} | {"return"}
        if isinstance(self.stop, ConfidenceStop):
            given |= self.stop.model_fields_set & {"delta"}
        decode = partial(decode_inputs, self.inputs, preprocess=self.preprocess)
        return PredictionRequest(options, len(self.inputs), decode, given)
