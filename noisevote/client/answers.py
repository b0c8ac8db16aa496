"""What servers answer, as frozen values. Keys that a newer server adds are ignored here and kept in `raw`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

NoiseKind = Literal["multiplicative", "additive"]


@dataclass(frozen=True)
class Stop:
    """A stopping rule: `fixed`, `exact`, or `confidence` with its error probability `delta`."""

    rule: Literal["fixed", "exact", "confidence"] = "fixed"
    delta: float | None = None


@dataclass(frozen=True)
class CastVote:
    """One noisy run of the network on an input: its number, the class that it is for, and the network's outputs."""

    vote: int
    label: str
    index: int
    logits: tuple[float, ...]


@dataclass(frozen=True)
class LeadingClass:
    """One of the classes with most votes, the label first; `mean_probability` is None where only votes are shown."""

    label: str
    index: int
    votes: int
    mean_probability: float | None = None


@dataclass(frozen=True)
class Prediction:
    """What the votes on one input decided. What the answer does not show is None; see `return` in docs/api.md.

    Attributes:
        label: the class with most votes.
        index: its number.
        histogram: votes per class.
        votes_used: votes counted.
        vote_share: the label's share of them.
        lower_bound: Clopper and Pearson's lower bound of a vote's probability for the label.
        abstain: the votes do not tell the label from the second class.
        complete: all votes that the stopping rule wanted were cast.
        stopped_by: what ended the voting: `rule`, `budget` or `deadline`; None too while it goes on.
        mean_probabilities: softmax of each vote's logits, averaged.
        top: the classes with most votes, with `top_k`; then `histogram` and `mean_probabilities` are None.
        votes: each vote; in a `Standing`, those counted since the one before.
        input: in a `Standing`, the number of the input.
    """

    label: str
    index: int
    histogram: tuple[int, ...] | None = None
    votes_used: int | None = None
    vote_share: float | None = None
    lower_bound: float | None = None
    abstain: bool | None = None
    complete: bool | None = None
    stopped_by: str | None = None
    mean_probabilities: tuple[float, ...] | None = None
    top: tuple[LeadingClass, ...] | None = None
    votes: tuple[CastVote, ...] | None = None
    input: int | None = None

    def logits(self) -> NDArray[np.float32]:
        """Of the votes that are shown, float32 [votes, classes].

        Raises:
            ValueError: the answer does not show votes; ask with `returns="votes"`.
        """
        if self.votes is None:
            raise ValueError('the answer does not show votes; ask with returns="votes"')
        return np.array([vote.logits for vote in self.votes], np.float32).reshape(len(self.votes), -1)


@dataclass(frozen=True)
class AnalogCost:
    """Layer times of analog hardware for the input that took most votes."""

    products: int
    latency_sequential: int
    latency_pipelined: int
    latency_parallel: int


@dataclass(frozen=True)
class Timing:
    """Milliseconds on the server: waiting for the first batch, from there to the last vote, and in all."""

    queue: float
    compute: float
    total: float


@dataclass(frozen=True)
class Answer:
    """The predictions of a request, in the order of its inputs, and all that repeats them.

    `raw` is the answer as the server sent it. `seed` is None where the answer shows labels alone and drew it.
    """

    model: str
    version: str
    variant: str
    sha256: str
    operator: int
    first_vote: int
    sigma: float
    noise: NoiseKind
    votes: int
    reads: int
    stop: Stop
    alpha: float
    predictions: tuple[Prediction, ...]
    analog_cost: AnalogCost
    seed: int | None = None
    timing_ms: Timing | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Standing:
    """How the votes stand on the inputs that got some since the one before."""

    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class Certificate:
    """What the votes on one input certify.

    Attributes:
        index: number of the selected class; None where the deadline came before it was selected.
        label: its name.
        radius: no input within this L2 distance has another smoothed decision; 0 where nothing is certified.
        abstain: nothing is certified, or not the radius that was asked for.
        lower_bound: of the probability of a vote for the class.
        count: estimating votes for the class.
        votes_used: estimating votes.
        first_vote: number of the first of them.
        seed: what the votes drew with.
        stopped_by: what ended the voting; None while it goes on.
        input: in an event, the number of the input.
    """

    index: int | None
    label: str | None
    radius: float
    abstain: bool
    lower_bound: float
    count: int
    votes_used: int
    first_vote: int
    seed: int
    stopped_by: str | None
    input: int | None = None


@dataclass(frozen=True)
class Certificates:
    """The certificates of a request, in the order of its inputs, and all that repeats them."""

    model: str
    version: str
    variant: str
    sha256: str
    operator: int
    sigma: float
    alpha: float
    n0: int
    n: int
    rule: Literal["fixed", "anytime"]
    radius_asked: float | None
    nonce: str
    certificates: tuple[Certificate, ...]
    timing_ms: Timing | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Plan:
    """A way to run a model on noisy hardware: `predict` takes `variant`, `votes` and `reads` as they are."""

    variant: str
    votes: int
    reads: int
    accuracy: float
    standard_error: float
    lower_bound: float
    known: Literal["measured", "interpolated"]
    analog_cost: AnalogCost


@dataclass(frozen=True)
class Planning:
    """The plan that meets a goal, or the nearest one and why none does; `raw` has what was searched."""

    model: str
    version: str
    sigma: float
    noise: NoiseKind
    goal: Mapping[str, float | int | str]
    feasible: bool
    assured: bool | None
    reason: str | None
    plan: Plan | None
    nearest: Plan | None
    cheaper: Plan | None
    runner_ups: tuple[Plan, ...]
    least_votes_to_decide: int
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Input:
    """What a model takes: float32 of this shape, with values inside this range."""

    shape: tuple[int, ...]
    value_range: tuple[float, float]


@dataclass(frozen=True)
class Variant:
    """One trained network of a version."""

    name: str
    sha256: str
    noise: NoiseKind
    sigma_train: float
    parameters: int
    layers: int
    certifies: float | None = None


@dataclass(frozen=True)
class Manifest:
    """What of a model's manifest a client is likely to need; the rest is in `Model.raw`."""

    title: str
    input: Input
    classes: tuple[str, ...]
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Model:
    """A served version of a model.

    `versions` are all that are served, oldest first; `variants` those of this version; `refused` says of others why
    not; `policy` says what requests may choose, None: everything.
    """

    name: str
    version: str
    versions: tuple[str, ...]
    variants: tuple[str, ...]
    refused: Mapping[str, str]
    manifest: Manifest
    policy: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
