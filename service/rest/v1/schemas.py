"""Bodies of requests and answers. The request's schema is what is enforced; the answer's is what is documented."""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from noisevote.model_store import analog_cost
from noisevote.model_store.manifest import Manifest, PrecisionChoice
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
from noisevote.service.validation import INT64, UINT64, Body, RequestBody

DEFAULTS: Final = VoteOptions()
# Settings of requests whose cost is remembered: they repeat a few of them over and over.
COSTS_KEPT: Final = 4096

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


class LabelledInput(Body):
    """What the votes on one input decided, and nothing of them; with `return` label."""

    label: str
    """name of the class with most votes; ties: the larger mean probability, then the lower index"""
    index: int


class VotedInput(LabelledInput):
    """The same with the votes per class and what follows from them; with `return` histogram."""

    histogram: list[int]
    """votes per class"""
    votes_used: int
    """votes counted: the budget, or fewer where the stopping rule was satisfied earlier"""
    vote_share: float
    """share of the votes that the label got"""
    lower_bound: float
    """Clopper-Pearson lower bound of a vote's probability for the label, at confidence 1 − alpha; exact for a number
    of votes fixed beforehand, so under `exact` and `confidence` it describes the counted votes and is no guarantee"""
    abstain: bool
    """the votes do not tell the label from the second class at level alpha (two-sided binomial test, which also takes
    the number of votes as fixed beforehand). Of one accord, n votes reach the level 2^(1 − n): at alpha 0.05 fewer than
    6 votes always abstain, however right the label is"""
    complete: bool
    """all votes that the stopping rule wanted were cast; false when the deadline came first"""
    stopped_by: Literal["rule", "budget", "deadline"]
    """what ended the voting: `rule`, its condition holds (under `confidence`: error at most delta); `budget`, all votes
    are cast without that; `deadline`, it passed before either, or the server ended"""


class Prediction(VotedInput):
    """The same with mean probabilities; with `return` probabilities, the default."""

    mean_probabilities: list[float]
    """softmax of each vote's logits, averaged"""


class CastVote(Body):
    """One noisy run of the network on an input."""

    vote: int
    """its number: with it as `first_vote`, and one vote, it is repeated alone"""
    label: str
    """name of the class that it is for"""
    index: int
    logits: list[float]
    """outputs of the network, float32"""


class InputWithVotes(Prediction):
    """The same with each vote; with `return` votes."""

    votes: list[CastVote]
    """in the order of their numbers; in an event of a stream, those counted since the event before"""


class LeadingClass(Body):
    """One of the classes with most votes."""

    label: str
    index: int
    votes: int
    mean_probability: float | None = None
    """left out with `return` histogram"""


class TopInput(LabelledInput):
    """What the votes on one input decided, with the leading classes alone; with `top_k`."""

    top: list[LeadingClass]
    """most votes first, ties as the label's"""
    votes_used: int
    vote_share: float
    lower_bound: float
    abstain: bool
    complete: bool
    stopped_by: Literal["rule", "budget", "deadline"]


class AnalogCost(Body):
    """Layer times of analog hardware for the input that took most votes (V), R reads and L noisy layers."""

    products: int
    """matrix-vector products: V·R·L"""
    latency_sequential: int
    """one after another: V·R·L"""
    latency_pipelined: int
    """each layer has its own array, runs follow one another: V·R + L − 1"""
    latency_parallel: int
    """each run has its own arrays: L"""

    @classmethod
    def of(cls, votes: int, reads: int, layers: int) -> "AnalogCost":
        """What so many votes and reads of a network with so many noisy layers cost."""
        return cls(
            products=analog_cost.products(votes, reads, layers),
            latency_sequential=analog_cost.latency("sequential", votes, reads, layers),
            latency_pipelined=analog_cost.latency("pipelined", votes, reads, layers),
            latency_parallel=analog_cost.latency("parallel", votes, reads, layers),
        )


@lru_cache(maxsize=COSTS_KEPT)
def shown_cost(votes: int, reads: int, layers: int) -> Mapping[str, int]:
    """`AnalogCost.of` as an answer shows it."""
    return AnalogCost.of(votes, reads, layers).model_dump()


class Timing(Body):
    """Milliseconds: waiting for the first batch, from there to the last vote, and in all."""

    queue: float
    compute: float
    total: float


class PredictResponse(Body):
    """One prediction per input, and everything needed to repeat the request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "mnist-cnn",
                    "version": "1",
                    "variant": "mul-0.8",
                    "sha256": "7536b171d98d62b62447dc613854a86da6ebd52e18d3a6ddfc0ad69345cd765a",
                    "operator": 1,
                    "seed": 7,
                    "first_vote": 0,
                    "sigma": 0.5,
                    "noise": "multiplicative",
                    "votes": 20,
                    "reads": 1,
                    "stop": {"rule": "fixed"},
                    "alpha": 0.05,
                    "predictions": [
                        {
                            "label": "7",
                            "index": 7,
                            "histogram": [0, 0, 0, 0, 0, 0, 0, 20, 0, 0],
                            "votes_used": 20,
                            "mean_probabilities": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
                            "vote_share": 1.0,
                            "lower_bound": 0.8609,
                            "abstain": False,
                            "complete": True,
                            "stopped_by": "budget",
                        }
                    ],
                    "analog_cost": AnalogCost.of(votes=20, reads=1, layers=6).model_dump(),
                    "timing_ms": {"queue": 0.1, "compute": 8.2, "total": 9.0},
                }
            ]
        }
    )

    model: str
    version: str
    variant: str
    sha256: str
    """of the ONNX file"""
    operator: int
    """version of the noise operator"""
    seed: Annotated[int, Field(json_schema_extra=UINT64)]
    first_vote: Annotated[int, Field(json_schema_extra=INT64)]
    sigma: float
    noise: NoiseKind
    votes: int
    reads: int
    stop: Stop
    alpha: float
    predictions: list[InputWithVotes] | list[Prediction] | list[VotedInput] | list[TopInput]
    analog_cost: AnalogCost
    timing_ms: Timing


class LabelResponse(Body):
    """One label per input; with `return` label. The seed is there where the request gave it."""

    model: str
    version: str
    variant: str
    sha256: str
    operator: int
    seed: Annotated[int, Field(json_schema_extra=UINT64)] | None = None
    first_vote: Annotated[int, Field(json_schema_extra=INT64)]
    sigma: float
    noise: NoiseKind
    votes: int
    reads: int
    stop: Stop
    alpha: float
    predictions: list[LabelledInput]
    analog_cost: AnalogCost


class Batch(Body):
    """How a variant is computed here, as measured when it was loaded."""

    rows: int
    """most votes, of any inputs, in a batch"""
    bytes: int | None
    """memory that such a batch takes while it is computed; null: it cannot be measured on this system"""


class ModelDescription(Body):
    """A served version: its manifest, and what of it is not served."""

    name: str
    version: str
    """this version; the newest one unless another was asked for"""
    versions: list[str]
    """all served versions, oldest first"""
    variants: list[str]
    """served variants"""
    refused: dict[str, str]
    """variants that are refused, and why"""
    policy: dict[str, Any] | None
    """what requests may choose, by route and key; what is not listed is forbidden. null: everything is free"""
    batches: dict[str, Batch]
    """of the variants that were loaded and measured in this process"""
    manifest: Manifest


class ModelList(Body):
    """All served models."""

    models: list[ModelDescription]


class Problem(Body):
    """Why a request was not answered."""

    code: str
    """for programs"""
    message: str
    """for people: names the key and the value"""


class ErrorResponse(Body):
    """Every answer that is not a success."""

    error: Problem
