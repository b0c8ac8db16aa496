"""What is answered to `…/predict`, as documented; service/rest/v1/predict.py writes it."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from noisevote.model_store import analog_cost
from noisevote.noise_op.contract import NoiseKind
from noisevote.service.rest.v1.stop_schemas import Stop
from noisevote.service.validation import INT64, UINT64, Body

# Settings of requests whose cost is remembered: they repeat a few of them over and over.
COSTS_KEPT: Final = 4096


class LabelledInput(Body):
    """What the votes on one input decided, and nothing of them; with `return` label."""

    label: str
    """name of the class with most votes; ties: the larger mean probability, then the lower index"""
    index: int


class DecidedInput(LabelledInput):
    """The same with how the votes decided it."""

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


class VotedInput(DecidedInput):
    """The same with the votes per class; with `return` histogram."""

    histogram: list[int]
    """votes per class"""


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


class TopInput(DecidedInput):
    """What the votes on one input decided, with the leading classes alone; with `top_k`."""

    top: list[LeadingClass]
    """most votes first, ties as the label's"""


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


class RepeatableResponse(Body):
    """Everything needed to repeat a request."""

    model: str
    version: str
    variant: str
    sha256: str
    """of the ONNX file"""
    operator: int
    """version of the noise operator"""
    seed: Annotated[int, Field(json_schema_extra=UINT64)] | None = None
    first_vote: Annotated[int, Field(json_schema_extra=INT64)]
    sigma: float
    noise: NoiseKind
    votes: int
    reads: int
    stop: Stop
    alpha: float


class PredictResponse(RepeatableResponse):
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

    seed: Annotated[int, Field(json_schema_extra=UINT64)]
    predictions: list[InputWithVotes] | list[Prediction] | list[VotedInput] | list[TopInput]
    analog_cost: AnalogCost
    timing_ms: Timing


class LabelResponse(RepeatableResponse):
    """One label per input; with `return` label. The seed is there where the request gave it."""

    predictions: list[LabelledInput]
    analog_cost: AnalogCost
