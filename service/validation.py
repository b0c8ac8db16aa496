"""What every body has in common: how strictly it is read, and how its problems are told."""

from itertools import pairwise
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from noisevote.service.errors import InvalidValueError

SHOWN_CHARACTERS: Final = 80
# Keys whose value is one of several kinds: pydantic puts the kind's tag after them, which is no key of the body.
TAGGED: Final = frozenset({"stop"})
# Pydantic places a bad tag at the tagged value; its problem is in the key that holds the tag.
BAD_TAG: Final = frozenset({"union_tag_invalid", "union_tag_not_found"})


class Body(BaseModel):
    """Every body that is read or sent."""

    # Strict: "20" is not 20. Closed: a misspelt `sigma` is refused, never silently the default.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value[:SHOWN_CHARACTERS] if isinstance(value, str | bytes | list) else value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def as_invalid_value(error: ValidationError, inside: str = "") -> InvalidValueError:
    """The first problem of a body as an error; `inside` is the key that the body stands under."""
    problem = error.errors(include_url=False)[0]
    place = [part for before, part in pairwise(("", *problem["loc"])) if before not in TAGGED]
    key = f"{inside}{''.join(map(_step, place))}".removeprefix(".")
    if problem["type"] in BAD_TAG:
        return _bad_tag(key, problem)
    if problem["type"] == "extra_forbidden":
        return InvalidValueError(key, f"unknown key (its value is {shown(problem['input'])})")
    if problem["type"] == "missing":
        return InvalidValueError(key, "is missing")
    return InvalidValueError(key or "body", f"{shown(problem['input'])}: {problem['msg']}")


def _bad_tag(key: str, problem: ErrorDetails) -> InvalidValueError:
    tag = problem["ctx"]["discriminator"].strip("'")
    if problem["type"] == "union_tag_not_found":
        return InvalidValueError(f"{key}.{tag}", "is missing")
    value = problem["input"][tag]
    return InvalidValueError(f"{key}.{tag}", f"{shown(value)}: must be one of {problem['ctx']['expected_tags']}")


def _step(part: str | int) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{part[:SHOWN_CHARACTERS]}"
