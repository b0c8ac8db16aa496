"""A phase of a load test: what is asked, and how requests come."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Rule = Literal["fixed", "exact", "confidence"]
Part = Literal["warm-up", "votes", "early stopping", "offered rate", "concurrency", "sigma", "mixed votes"]
Votes = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Frozen(BaseModel):
    """Every record that is written or sent to the generator."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClosedLoop(Frozen):
    """Clients that each send their next request when they have the answer to the one before."""

    kind: Literal["closed"] = "closed"
    clients: Annotated[int, Field(ge=1)]


class OpenLoop(Frozen):
    """Requests that come at random times (Poisson), whatever becomes of earlier ones."""

    kind: Literal["open"] = "open"
    rate: Rate
    """requests per second"""


Load = Annotated[ClosedLoop | OpenLoop, Field(discriminator="kind")]


class Phase(Frozen):
    """Some seconds of one kind of load. Each request draws its votes from `votes`, all equally likely."""

    part: Part
    votes: Annotated[tuple[Votes, ...], Field(min_length=1)]
    sigma: Annotated[float, Field(ge=0)]
    rule: Rule
    load: Load
    seconds: Annotated[float, Field(gt=0)]
    """in which requests are sent; answers are waited for beyond it"""


class Order(Frozen):
    """A phase as the generator gets it: where to send what."""

    phase: Phase
    path: str
    bodies: dict[Votes, str]
    """the JSON to send for each number of votes"""
