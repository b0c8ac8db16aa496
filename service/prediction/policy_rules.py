"""What a policy says about one key, and what a key is to it."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from noisevote.service.errors import PolicyError

Scalar = bool | int | float | str
Kind = Literal["number", "integer", "text", "flag", "list"]


@dataclass(frozen=True)
class Key:
    """A key of requests: what it is where a request does not give it, and which values it may have at all.

    Of a list nothing but "free" can be said.
    """

    default: Scalar | None
    kind: Kind
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FixedRule(_Rule):
    """Always this value; a request may leave the key out, or give this."""

    fixed: Scalar

    def resolved(self, key: str, value: Any, *, given: bool) -> Any:
        """The value of a request that gives it, or does not.

        Raises:
            PolicyError: it gives another.
        """
        if given and not _same(value, self.fixed):
            raise PolicyError(key, f"{value!r}; this model's policy fixes {self.fixed!r}")
        return self.fixed

    def problem(self, key: Key) -> str | None:
        """Why the rule cannot be one of this key."""
        return _misfit(key, self.fixed)


class BoundedRule(_Rule):
    """Within bounds; `default` where a request does not give it."""

    least: float | None = None
    most: float | None = None
    one_of: Annotated[tuple[Scalar, ...], Field(min_length=1, strict=False)] | None = None
    default: Scalar | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        ranged = self.least is not None or self.most is not None
        if ranged == (self.one_of is not None):
            raise ValueError("a bounded key has least and most, one of them, or one_of")
        return self

    def resolved(self, key: str, value: Any, *, given: bool) -> Any:
        """See `FixedRule.resolved`."""
        if not given and self.default is not None:
            return self.default
        if not self.allows(value):
            raise PolicyError(key, f"{value!r}; this model's policy allows {self}")
        return value

    def allows(self, value: Any) -> bool:
        """Whether a value is inside; None never is."""
        if self.one_of is not None:
            return any(_same(value, each) for each in self.one_of)
        if value is None:
            return False
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def problem(self, key: Key) -> str | None:
        """Why the rule cannot be one of this key."""
        values = [each for each in (self.default, *(self.one_of or ())) if each is not None]
        if key.kind not in {"number", "integer"} and self.one_of is None:
            return f"a {key.kind} has neither least nor most"
        if misfit := next((found for each in values if (found := _misfit(key, each))), None):
            return misfit
        default = key.default if self.default is None else self.default
        return None if self.allows(default) else f"needs a default inside {self}, for requests that do not give it"

    def __str__(self) -> str:
        if self.one_of is not None:
            return "one of " + ", ".join(map(repr, self.one_of))
        return " and ".join(
            f"{word} {bound:g}"
            for word, bound in (("at least", self.least), ("at most", self.most))
            if bound is not None
        )


def _which(rule: Any) -> str:
    """Which kind of rule is meant, so that problems are told of that one."""
    if isinstance(rule, FixedRule) or (isinstance(rule, dict) and "fixed" in rule):
        return "fixed"
    return "bounded" if isinstance(rule, BoundedRule | dict) else "free"


Rule = Annotated[
    Annotated[Literal["free"], Tag("free")]
    | Annotated[FixedRule, Tag("fixed")]
    | Annotated[BoundedRule, Tag("bounded")],
    Discriminator(_which),
]


def resolve(key: str, rule: Rule | None, value: Any, *, given: bool) -> Any:
    """The value of a key under its rule; without a rule a request may not give it.

    Raises:
        PolicyError: the rule does not allow it.
    """
    if rule is None and given:
        raise PolicyError(key, f"{value!r}; this model's policy does not let requests choose it")
    if rule is None or rule == "free":
        return value
    return rule.resolved(key, value, given=given)


def problem_of(rule: Rule, key: Key) -> str | None:
    """Why a rule cannot be one of a key; None where it can."""
    return None if rule == "free" else rule.problem(key)


def _same(value: Any, other: Any) -> bool:
    """Equal, and not a flag beside a number."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def _misfit(key: Key, value: Scalar) -> str | None:
    if key.kind == "list":
        return "only 'free' can be said of it"
    kinds = {"number": (int, float), "integer": (int,), "text": (str,), "flag": (bool,)}
    if not isinstance(value, kinds[key.kind]) or (key.kind != "flag" and isinstance(value, bool)):
        return f"{value!r} is no {key.kind}"
    if isinstance(value, str):
        return f"{value!r} is not one of {', '.join(key.choices)}" if key.choices and value not in key.choices else None
    return None if key.least <= value <= key.most else f"{value!r} is not in {key.least:g} … {key.most:g}"
