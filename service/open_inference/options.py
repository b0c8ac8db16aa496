"""Options of a request: parameters, or tensors of one value or one per input."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any, Final, Literal, get_args

from pydantic import Field, ValidationError

from noisevote.model_store.manifest import PrecisionChoice
from noisevote.noise_op.contract import NoiseKind
from noisevote.service.errors import InvalidValueError
from noisevote.service.open_inference.call import Tensor
from noisevote.service.open_inference.datatypes import BYTES, FLOATS, INTEGERS, NUMBERS, elements
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
from noisevote.service.prediction.options import InputRun, VoteOptions, given_sigma
from noisevote.service.prediction.policy_keys import DELTA
from noisevote.service.validation import RequestBody, as_invalid_value, refuse_unknown_keys
from noisevote.voting.stopping import Confidence, Exact, Fixed, RuleName, StopRule

DEFAULTS: Final = VoteOptions()
# The protocol's own way to give a deadline, in microseconds.
TIMEOUT: Final = "timeout"


class Options(RequestBody):
    """What a request may choose, by parameters of these names."""

    never_null = NOISE_KEYS

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
    """input i draws with seed + i modulo 2⁶⁴, and with exactly its own where a tensor has a seed per input; a missing
    seed is drawn and returned"""
    first_vote: FirstVote = DEFAULTS.first_vote
    """number of each input's first vote"""
    stop: RuleName = "fixed"
    """when an input has votes enough; `votes` is the budget in any case"""
    delta: Probability = DELTA
    """error probability of a decision that `confidence` stopped at before the budget"""
    alpha: Probability = DEFAULTS.alpha
    """error probability of `lower_bound` and `abstain`"""
    deadline_ms: DeadlineMs | None = None
    """answer so long after acceptance with the votes counted so far"""
    timeout: int | None = Field(default=None, gt=0)
    """the same in microseconds, as clients of this protocol know it"""
    priority: Priority = DEFAULTS.priority
    """share of the server beside other waiting requests: one of priority 4 gets four rows where one of 1 gets one"""
    variant: str = DEFAULTS.variant
    """name of a variant, or `auto`: the one whose measured accuracy is best for this noise and these votes"""
    precision: PrecisionChoice | None = None
    """what products are computed in; missing: a named variant's own, and for `auto` the server's setting"""
    top_k: TopK | None = None
    """show of `histogram` and `probability` the so many leading classes alone, as their `classification`"""
    preprocess: bool = DEFAULTS.preprocess
    """make inputs of images of any size (BYTES) as the model's manifest declares: resized, cut out, normalised"""

    def as_vote_options(self) -> VoteOptions:
        """The same for all protocols, but for how much is shown.

        Raises:
            InvalidValueError: sigma or the deadline was given twice, or a delta to a rule that has none.
        """
        if "delta" in self.model_fields_set and self.stop != "confidence":
            raise InvalidValueError("delta", f"{self.delta} beside stop {self.stop!r}; only 'confidence' has it")
        if self.timeout is not None and self.deadline_ms is not None:
            raise InvalidValueError(
                TIMEOUT, f"{self.timeout} beside deadline_ms {self.deadline_ms}; give one of the two"
            )
        rules: dict[str, StopRule] = {"fixed": Fixed(), "exact": Exact(), "confidence": Confidence(self.delta)}
        return VoteOptions(
            sigma=given_sigma(self.sigma, self.snr_db) or 0.0,
            noise=self.noise,
            votes=self.votes,
            reads=self.reads,
            seed=self.seed,
            first_vote=self.first_vote,
            rule=rules[self.stop],
            alpha=self.alpha,
            deadline_ms=self.deadline_ms if self.timeout is None else self.timeout / 1e3,
            priority=self.priority,
            variant=self.variant,
            precision=self.precision,
            top_k=self.top_k,
            preprocess=self.preprocess,
        )


Kind = Literal["float", "integer", "text"]
# Options that may come as tensors, and what their elements are.
TENSORS: Final[Mapping[str, Kind]] = {
    "sigma": "float", "snr_db": "float", "noise": "text", "votes": "integer", "reads": "integer", "seed": "integer",
    "first_vote": "integer", "stop": "text", "delta": "float", "alpha": "float", "deadline_ms": "float",
    "priority": "integer", "variant": "text", "precision": "text",
}  # fmt: skip
# What the model's metadata says of them, and which others are read.
DATATYPES: Final[Mapping[Kind, str]] = {"float": "FP32", "integer": "INT64", "text": BYTES}
READ: Final[Mapping[Kind, frozenset[str]]] = {
    "float": FLOATS | INTEGERS,
    "integer": INTEGERS,
    "text": frozenset({BYTES}),
}
# What holds for the whole request.
PARAMETERS_ALONE: Final = frozenset({TIMEOUT, "top_k", "preprocess"})
assert set(TENSORS) | PARAMETERS_ALONE == set(Options.model_fields)
assert set(get_args(Kind)) == set(DATATYPES) == set(READ)


def datatype(option: str) -> str:
    """The datatype that the metadata gives an option's tensor."""
    return "UINT64" if option == "seed" else DATATYPES[TENSORS[option]]


def column(tensor: Tensor, inputs: int) -> list[Any]:
    """The values of an option's tensor: one, or one per input.

    Raises:
        InvalidValueError: it is of another datatype or size.
    """
    key, kind = f"inputs.{tensor.name}", TENSORS[tensor.name]
    if tensor.datatype not in READ[kind]:
        known = ", ".join(sorted(READ[kind]))
        raise InvalidValueError(f"{key}.datatype", f"{tensor.datatype!r} is not one of {known}")
    values = elements(tensor, key)
    if len(values) not in {1, inputs}:
        raise InvalidValueError(key, f"{len(values)} values; give one, or one for each of the {inputs} inputs")
    return [shortest(value, tensor.datatype) for value in values] if tensor.datatype in FLOATS else values


def shortest(value: float, datatype: str) -> float:
    """The shortest decimal number that rounds to this one: 0.8 for the FP32 0.800000011920929, which nobody means."""
    return float(str(NUMBERS[datatype].type(value)))


def read_runs(
    parameters: Mapping[str, Any], columns: Mapping[str, list[Any]], inputs: int
) -> tuple[tuple[InputRun, ...], frozenset[str]]:
    """The options of all inputs, and the names of those that are given.

    Args:
        parameters: options by name, of all inputs alike.
        columns: options by name, one value or one per input.
        inputs: how many there are.

    Raises:
        InvalidValueError: an option cannot be used; the message names it and its value.
    """
    for key in columns:
        if key in parameters:
            raise InvalidValueError(f"inputs.{key}", f"beside the parameter {key}; give one of the two")
    common = {**parameters, **{key: values[0] for key, values in columns.items() if len(values) == 1}}
    varying = {key: values for key, values in columns.items() if len(values) > 1}
    first, given = _options(common | {key: values[0] for key, values in varying.items()}, 0 if varying else None)
    if not varying:
        return (InputRun(first, 0, inputs),), given
    rows = list(zip(*varying.values(), strict=True))
    own_seeds = "seed" in varying
    runs: list[InputRun] = []
    for _, group in groupby(range(inputs), key=lambda i: (rows[i], i if own_seeds else 0)):
        numbers = list(group)
        start, stop = numbers[0], numbers[-1] + 1
        options, _ = _options(common | dict(zip(varying, rows[start], strict=True)), start)
        runs.append(InputRun(options, start, stop, origin=start if own_seeds else 0))
    return tuple(runs), given


def _options(values: dict[str, Any], index: int | None) -> tuple[VoteOptions, frozenset[str]]:
    """Options as they were given, of all inputs or of that with this index."""
    try:
        refuse_unknown_keys(Options, values)
        options = Options.model_validate(values)
    except ValidationError as error:
        problem = as_invalid_value(error)
        if index is None:
            raise problem from None
        raise InvalidValueError(f"of inputs[{index}]", str(problem)) from None
    given = {"deadline_ms" if key == TIMEOUT else key for key in options.model_fields_set}
    return options.as_vote_options(), frozenset(given)
