"""Stopping rules as the key `stop` names them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from noisevote.service.validation import RequestBody
from noisevote.voting.stopping import Confidence, Exact, Fixed, StopRule


class FixedStop(RequestBody):
    """Cast the whole budget."""

    rule: Literal["fixed"]

    def as_rule(self) -> StopRule:
        """The scheduler's rule."""
        return Fixed()


class ExactStop(RequestBody):
    """Stop once the decision can no longer differ from the whole budget's."""

    rule: Literal["exact"]

    def as_rule(self) -> StopRule:
        """The scheduler's rule."""
        return Exact()


class ConfidenceStop(RequestBody):
    """Stop once the mode is known with error at most `delta`, or at the budget (PPR-1v1, Jain et al. 2022)."""

    rule: Literal["confidence"]
    delta: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.05
    """error probability of a decision that the rule stopped at before the budget"""

    def as_rule(self) -> StopRule:
        """The scheduler's rule."""
        return Confidence(self.delta)


def shown_rule(rule: StopRule) -> dict[str, Any]:
    """A rule as the key `stop` names it."""
    return {"rule": rule.name} | ({"delta": rule.delta} if isinstance(rule, Confidence) else {})


Stop = Annotated[FixedStop | ExactStop | ConfidenceStop, Field(discriminator="rule")]
