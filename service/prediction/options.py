"""What a request may choose, in whatever protocol it came."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from noisevote.model_store.manifest import InputSpec, PrecisionChoice
from noisevote.noise_op.contract import NoiseKind, sigma_of_snr_db
from noisevote.service.errors import InvalidValueError
from noisevote.service.models.registry import AUTO
from noisevote.voting.stopping import Fixed, StopRule

MAX_SIGMA: Final = 10.0
MAX_DEADLINE_MS: Final = 24 * 60 * 60 * 1000
MAX_PRIORITY: Final = 8
# With as many votes as a server may allow after it, numbers stay below the operator's 2³².
MAX_FIRST_VOTE: Final = 2**31

PRECISIONS: Final[tuple[PrecisionChoice, ...]] = get_args(PrecisionChoice)

# How much of the votes an answer shows, each with what is before it: the label alone, votes per class and what follows
# from them, their mean probabilities, and each vote's logits.
Returns = Literal["label", "histogram", "probabilities", "votes"]
RETURNS: Final[tuple[Returns, ...]] = get_args(Returns)


@dataclass(frozen=True)
class VoteOptions:
    """The noise that a request's inputs meet, how often they are run, and when there are votes enough.

    Attributes:
        sigma: standard deviation of the noise of one read.
        noise: noise kind.
        votes: runs of each input, at most.
        reads: reads of each analog product that are averaged.
        seed: input i draws with seed + i modulo 2⁶⁴; None: the service draws one.
        first_vote: number of each input's first vote.
        rule: when an input has votes enough.
        alpha: error probability of the bound and of abstaining.
        deadline_ms: milliseconds after acceptance at which the votes counted so far are the answer.
        priority: share of the server beside other waiting requests.
        variant: name of a variant, or `auto`.
        precision: what products are computed in; None: a named variant's own, and for `auto` the server's setting.
        returns: how much of the votes is shown.
        top_k: of how many classes it is shown; None: of all.
        preprocess: images are made inputs as the manifest declares, whatever their size.
    """

    sigma: float = 0.0
    noise: NoiseKind = "multiplicative"
    votes: int = 20
    reads: int = 1
    seed: int | None = None
    first_vote: int = 0
    rule: StopRule = field(default_factory=Fixed)
    alpha: float = 0.05
    deadline_ms: float | None = None
    priority: int = 1
    variant: str = AUTO
    precision: PrecisionChoice | None = None
    returns: Returns = "probabilities"
    top_k: int | None = None
    preprocess: bool = False


@dataclass(frozen=True)
class InputRun:
    """Inputs `start` … `stop` − 1 of a request, which have the same options.

    Input i of the request draws with seed + i − `origin`: with 0 the seed is the whole request's, with `start` this
    run's own.
    """

    options: VoteOptions
    start: int
    stop: int
    origin: int = 0

    @property
    def votes(self) -> int:
        """The most that may be cast, over all its inputs."""
        return (self.stop - self.start) * self.options.votes


@dataclass(frozen=True)
class PredictionRequest:
    """A request to predict, read from some protocol.

    `decode` makes the `inputs` inputs an array float32 [inputs, *shape], finite and inside the value range, for a
    model of that input; it raises `ServiceError` where it cannot. `given` names the keys that the request gives, with
    `delta` for that of its stopping rule; None: the protocol does not tell, so what is no default counts as given.
    `varied`: the inputs by their options, where these are not the same for all. `note` is what the protocol wants to
    know when it answers; nobody else looks at it.
    """

    options: VoteOptions
    inputs: int
    decode: Callable[[InputSpec], NDArray[np.float32]]
    given: frozenset[str] | None = None
    varied: tuple[InputRun, ...] = ()
    note: object = None
    runs: tuple[InputRun, ...] = field(init=False)
    """all inputs by their options, in order"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", self.varied or (InputRun(self.options, 0, self.inputs),))

    @property
    def votes(self) -> int:
        """The most that may be cast, over all inputs."""
        return sum(run.votes for run in self.runs)


def given_sigma(sigma: float | None, snr_db: float | None) -> float | None:
    """Sigma, given as such or as a signal-to-noise ratio; None if it was not given.

    Raises:
        InvalidValueError: it was given twice.
    """
    if sigma is not None and snr_db is not None:
        raise InvalidValueError("snr_db", f"{snr_db} beside sigma {sigma}; give one of the two")
    return sigma if snr_db is None else min(MAX_SIGMA, sigma_of_snr_db(snr_db))
