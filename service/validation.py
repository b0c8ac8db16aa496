"""Problems that pydantic finds, in one line that names key and value."""

from typing import Any, Final

from pydantic import ValidationError

from service.errors import InvalidValueError

SHOWN_CHARACTERS: Final = 80


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value[:SHOWN_CHARACTERS] if isinstance(value, str | bytes | list) else value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def as_invalid_value(error: ValidationError, inside: str = "") -> InvalidValueError:
    """The first problem of a body as an error; `inside` is the key that the body stands under."""
    problem = error.errors(include_url=False, include_context=False)[0]
    key = f"{inside}{''.join(_step(part) for part in problem['loc'])}".removeprefix(".")
    if problem["type"] == "extra_forbidden":
        return InvalidValueError(key, f"unknown key (its value is {shown(problem['input'])})")
    if problem["type"] == "missing":
        return InvalidValueError(key, "is missing")
    return InvalidValueError(key or "body", f"{shown(problem['input'])}: {problem['msg']}")


def _step(part: str | int) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{part[:SHOWN_CHARACTERS]}"
