"""Which phases a load test has."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from noisevote.loadtest.measurement import Measurement
from noisevote.loadtest.phase import ClosedLoop, Frozen, Load, OpenLoop, Part, Phase, Rate, Rule, Votes

Clients = Annotated[int, Field(ge=1)]
Sigma = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]

WARM_UP_SHARE: Final = 0.5  # of a phase's time


class LoadProfile(Frozen, use_attribute_docstrings=True):
    """What is varied around requests of `usual_votes` votes at `sigma` by so many clients."""

    votes: Annotated[tuple[Votes, ...], Field(min_length=1)] = (1, 2, 5, 10, 20, 50, 100)
    """numbers of votes that are measured, and drawn from for mixed votes"""
    sigma: Sigma = 0.8
    """standard deviation of the noise"""
    clients: Clients = 8
    """clients of closed loops"""
    rule: Rule = "exact"
    """stopping rule of early stopping"""
    usual_votes: Votes = 20
    """votes of a request where clients or sigma are varied"""
    concurrency: tuple[Clients, ...] = (1, 2, 4, 8, 16, 32)
    """numbers of clients that are measured"""
    sigmas: tuple[Sigma, ...] = (0.0, 0.4, 0.8, 1.2)
    """sigmas that are measured, with early stopping"""
    load: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.5
    """open loop: offered share of the requests per second that the closed loop reached with as many votes"""
    rate: Rate | None = None
    """open loop: offered requests per second, instead of a share"""
    seconds: Annotated[float, Field(gt=0, le=86400)] = 40.0
    """in which requests are sent, all phases together"""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for name in ("votes", "concurrency", "sigmas"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: {','.join(f'{value:g}' for value in values)} names a value twice")
        return self

    @property
    def phase_seconds(self) -> float:
        """The time that each phase gets."""
        count = 3 * len(self.votes) + len(self.concurrency) + len(self.sigmas) + 2
        return self.seconds / (count + WARM_UP_SHARE)

    def warm_up(self) -> Phase:
        """The first phase, whose latencies nobody wants."""
        seconds = WARM_UP_SHARE * self.phase_seconds
        return self._closed("warm-up", (self.usual_votes,), "fixed").model_copy(update={"seconds": seconds})

    def closed(self, votes: int) -> Phase:
        """Closed loop, all votes cast."""
        return self._closed("votes", (votes,), "fixed")

    def stopping(self, votes: int) -> Phase:
        """Closed loop with early stopping."""
        return self._closed("early stopping", (votes,), self.rule)

    def offered(self, votes: int, closed: Measurement) -> Phase | None:
        """Open loop, by what the closed loop with as many votes reached; None where it reached nothing."""
        rate = self.rate or self.load * closed.requests_per_second
        return self._phase("offered rate", (votes,), "fixed", OpenLoop(rate=rate)) if rate else None

    def others(self) -> Iterator[Phase]:
        """Concurrency, sigma, and votes mixed: each request draws its own."""
        usual = (self.usual_votes,)
        for clients in self.concurrency:
            yield self._phase("concurrency", usual, "fixed", ClosedLoop(clients=clients))
        for sigma in self.sigmas:
            yield self._closed("sigma", usual, self.rule).model_copy(update={"sigma": sigma})
        yield self._closed("mixed votes", self.votes, "fixed")
        yield self._closed("mixed votes", self.votes, self.rule)

    def _closed(self, part: Part, votes: Sequence[int], rule: Rule) -> Phase:
        return self._phase(part, votes, rule, ClosedLoop(clients=self.clients))

    def _phase(self, part: Part, votes: Sequence[int], rule: Rule, load: Load) -> Phase:
        return Phase(part=part, votes=tuple(votes), sigma=self.sigma, rule=rule, load=load, seconds=self.phase_seconds)
