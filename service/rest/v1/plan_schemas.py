"""Bodies of a plan's request and answer."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field

from noisevote.model_store.analog_cost import Execution
from noisevote.model_store.planning import Figure, Goal, LatencyBudget, ProductBudget, TargetAccuracy
from noisevote.noise_op.contract import NoiseKind
from noisevote.service.errors import InvalidValueError
from noisevote.service.prediction.option_keys import NOISE_KEYS, Sigma, SnrDb
from noisevote.service.prediction.options import given_sigma
from noisevote.service.rest.v1.answer_schemas import AnalogCost
from noisevote.service.validation import EXACT_IN_A_DOUBLE, INT64, INTEGRAL, Body, RequestBody

# Bound the work of one request; measured tables end far below.
MOST_VOTES: Final = 1000
MOST_READS: Final = 1000

# Far above what any plan costs.
Budget = Annotated[int, Field(ge=1, le=EXACT_IN_A_DOUBLE, json_schema_extra=INT64), INTEGRAL]


class PlanRequest(RequestBody):
    """The noise, one goal, and what a plan may use."""

    never_null = NOISE_KEYS
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"sigma": 0.8, "accuracy": 0.995},
                {"sigma": 1.0, "products": 60},
                {"sigma": 1.0, "layer_times": 25, "execution": "pipelined", "max_reads": 1},
            ]
        }
    )

    sigma: Sigma = None
    """standard deviation of the noise of one read: relative to the signal (multiplicative) or absolute (additive);
    this or `snr_db` is needed"""
    snr_db: SnrDb = None
    """instead of sigma: −20·log10(sigma)"""
    noise: NoiseKind = "multiplicative"
    """noise kind"""
    accuracy: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    """goal: the plan of fewest products that is at least so accurate"""
    products: Budget | None = None
    """goal: the most accurate plan of at most so many matrix-vector products, V·R·L"""
    layer_times: Budget | None = None
    """goal: the most accurate plan that takes at most so many layer times; `execution` says how they are counted"""
    execution: Execution | None = None
    """one product after another takes V·R·L layer times, with an array for each layer V·R + L − 1, with arrays for each
    run L"""
    max_votes: Annotated[int, Field(ge=1, le=MOST_VOTES), INTEGRAL] | None = None
    """most votes of a plan; default: the most that were measured"""
    max_reads: Annotated[int, Field(ge=1, le=MOST_READS), INTEGRAL] = 100
    """most reads of a plan"""
    variants: Annotated[list[str], Field(min_length=1, fail_fast=True)] | None = None
    """names of the variants to choose from; default: all that are served"""
    by: Figure = "estimate"
    """the figure that goals and plans are judged by: the estimated accuracy, or its `lower_bound`"""
    alpha: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.05
    """error probability of `lower_bound`, and of `predict` for `least_votes_to_decide`"""

    def under(self, judge: Callable[[Mapping[str, Any], frozenset[str]], Mapping[str, Any]]) -> Self:
        """The request as a policy has it, which judges its values and which of them were given."""
        values = {key: getattr(self, key) for key in type(self).model_fields if key != "snr_db"}
        values["sigma"] = given_sigma(self.sigma, self.snr_db)
        return self.model_copy(update={**judge(values, frozenset(self.model_fields_set)), "snr_db": None})

    def noise_sigma(self) -> float:
        """Sigma, however it was given.

        Raises:
            InvalidValueError: it was given twice, or not at all.
        """
        sigma = given_sigma(self.sigma, self.snr_db)
        if sigma is None:
            raise InvalidValueError("sigma", "is missing; give sigma or snr_db")
        return sigma

    def goal(self) -> Goal:
        """The one goal.

        Raises:
            InvalidValueError: none, more than one, or half of one was given.
        """
        given = list(self._goals())
        if not given:
            raise InvalidValueError("accuracy", "is missing; give one goal: accuracy, products or layer_times")
        if len(given) > 1:
            (first, one), (second, other) = given[:2]
            raise InvalidValueError(second, f"{other} beside {first} {one}; give one goal")
        if self.execution is not None and self.layer_times is None:
            raise InvalidValueError("execution", f"{self.execution!r} without layer_times")
        if self.accuracy is not None:
            return TargetAccuracy(self.accuracy)
        if self.products is not None:
            return ProductBudget(self.products)
        assert self.layer_times is not None  # one goal was given, and it is none of the others
        if self.execution is None:
            problem = f"is missing; {self.layer_times} layer_times are counted sequential, pipelined or parallel"
            raise InvalidValueError("execution", problem)
        return LatencyBudget(self.layer_times, self.execution)

    def _goals(self) -> Iterator[tuple[str, float]]:
        for name in ("accuracy", "products", "layer_times"):
            value: float | None = getattr(self, name)
            if value is not None:
                yield name, value


class MeasuredPoint(Body):
    """A measured accuracy around a plan."""

    sigma: float
    """effective: sigma/√reads"""
    votes: int
    accuracy: float
    images: int
    """test images"""
    spread: float | None
    """standard deviation of accuracy over repetitions on the same images, where it was repeated"""


class PlanEntry(Body):
    """A way to run the model; `variant`, `votes` and `reads` are taken by `predict` as they are."""

    variant: str
    votes: int
    reads: int
    accuracy: float
    """estimated share of right decisions"""
    standard_error: float
    """√(p(1 − p)/n) for accuracy p on n test images: of the estimate as far as images and noise are chance; what
    interpolation adds is not in it"""
    lower_bound: float
    """the least Clopper-Pearson bound, at confidence 1 − alpha, of the points around: nothing is taken from between"""
    known: Literal["measured", "interpolated"]
    """whether exactly this was measured, or what lies around it"""
    points: list[MeasuredPoint]
    """the measured points around sigma/√reads and votes; a single one where exactly this was measured"""
    analog_cost: AnalogCost


class Searched(Body):
    """What was compared."""

    variants: list[str]
    votes: int
    """most votes"""
    reads: int
    """most reads"""
    known: int
    """plans of so many votes and reads at most whose accuracy the measured tables know"""
    outside: int
    """further ones outside of the tables: not considered, however good they may be"""


class PlanResponse(Body):
    """The plan, and what lies next to it."""

    model: str
    version: str
    sigma: float
    noise: NoiseKind
    goal: dict[str, float | int | str]
    """the goal as asked"""
    by: Figure
    alpha: float
    feasible: bool
    """whether a known plan meets the goal, judged by the figure `by`"""
    assured: bool | None
    """whether the plan's lower_bound reaches the target accuracy too; null without a target or a plan"""
    reason: str | None
    """why not, where no known plan meets the goal"""
    plan: PlanEntry | None
    """the best plan that meets the goal; null where none does"""
    nearest: PlanEntry | None
    """where none meets the goal: the most accurate one, or, for a budget, the cheapest or fastest one; null where
    nothing is known at all"""
    cheaper: PlanEntry | None
    """the plan of fewest products that is no more than one standard error less accurate than `plan` (or `nearest`), if
    there is a cheaper one: the tables hardly tell the two apart"""
    runner_ups: list[PlanEntry]
    """next to `plan` (or `nearest`), in this order: up to four that no other beats in accuracy and products at once, of
    which two of one variant differ by a quarter in products at least; and the best of each other variant"""
    least_votes_to_decide: int
    """fewest votes by which `predict` can tell the first class from the second at this alpha: with fewer, `abstain` is
    always true there, however right the label is"""
    searched: Searched
