"""What a look at something found."""

from dataclasses import dataclass
from typing import Literal

Health = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what to do about it where something can be done.

    A warning is what serves, but not as well as it could; a failure keeps from serving.
    """

    subject: str
    health: Health
    found: str
    advice: str | None = None


def ok(subject: str, found: str) -> Finding:
    """Nothing is to be done."""
    return Finding(subject, "ok", found)


def warning(subject: str, found: str, advice: str) -> Finding:
    """It serves, but not as well as it could."""
    return Finding(subject, "warning", found, advice)


def failure(subject: str, found: str, advice: str) -> Finding:
    """It keeps from serving."""
    return Finding(subject, "failure", found, advice)
