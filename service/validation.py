"""What every body has in common: how strictly it is read, and how its problems are told."""

from collections.abc import Mapping
from itertools import pairwise
from reprlib import Repr
from typing import Any, ClassVar, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

from noisevote.service.errors import InvalidValueError

SHOWN_CHARACTERS: Final = 80
# Keys whose value is one of several kinds: pydantic puts the kind's tag after them, which is no key of the body.
TAGGED: Final = frozenset({"stop"})
# Pydantic places a bad tag at the tagged value; its problem is in the key that holds the tag.
BAD_TAG: Final = frozenset({"union_tag_invalid", "union_tag_not_found"})
NULL: Final = {"type": "null"}
# Beyond it the numbers of doubles are further apart than integers: 1e19 may have been another one.
EXACT_IN_A_DOUBLE: Final = 2**53


# Cuts what is long, many or deep while it writes it, so that no value costs more than what is shown of it.
_BRIEF: Final = Repr()
_BRIEF.maxlevel = 4
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxdict = _BRIEF.maxset = _BRIEF.maxfrozenset = 20
_BRIEF.maxstring = _BRIEF.maxlong = _BRIEF.maxother = SHOWN_CHARACTERS


class Body(BaseModel):
    """Every body that is read or sent."""

    # Strict: "20" is not 20. Closed: a misspelt `sigma` is refused, never silently the default.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


class RequestBody(Body):
    """A body that is read: null stands for a key that is not given, as clients with types of their own send it."""

    # Optional keys that null is refused for: JavaScript makes it of NaN, which must not become the default.
    never_null: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, body: Any) -> Any:
        if not isinstance(body, dict) or None not in body.values():
            return body
        return {key: value for key, value in body.items() if value is not None or not cls._may_be_null(key)}

    @classmethod
    def _may_be_null(cls, key: str) -> bool:
        field = cls.model_fields.get(key)
        return field is not None and not field.is_required() and key not in cls.never_null

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema says so too."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        for key, described in schema["properties"].items():
            if cls._may_be_null(key):
                schema["properties"][key] = _or_null(described)
            elif key in cls.never_null:
                schema["properties"][key] = _not_null(described)
        return schema


def integral(value: Any) -> Any:
    """20 for 20.0, which JSON does not tell apart; anything else, and what may have been rounded, as it is."""
    if type(value) is float and value.is_integer() and abs(value) <= EXACT_IN_A_DOUBLE:
        return int(value)
    return value


def _integer(value: Any) -> Any:
    whole = integral(value)
    if type(whole) is float and whole.is_integer():
        problem = "beyond 2⁵³ an integer is written in digits, without point or exponent, and has 64 bits at most"
        raise PydanticCustomError("inexact", problem)
    return whole


def given(value: Any) -> Any:
    """Refuse null."""
    if value is None:
        raise PydanticCustomError("null", "null is no number (JavaScript sends it for NaN); leave the key out instead")
    return value


# Beside the type and bounds of a key: as an integer also what is one without being written so; never null.
INTEGRAL: Final = BeforeValidator(_integer)
GIVEN: Final = BeforeValidator(given)
# Numbers that fit into a signed and an unsigned 64-bit integer, for clients that are generated from the schema.
INT64: Final = {"format": "int64"}
UINT64: Final = {"format": "uint64"}


def shown(value: Any) -> str:
    """A value in a message, cut where it is long or deep."""
    text = repr(value[: SHOWN_CHARACTERS + 1]) if isinstance(value, str | bytes) else _BRIEF.repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def refuse_unknown_keys(kind: type[BaseModel], content: Mapping[str, Any], inside: str = "") -> None:
    """Name one key of an object that its kind does not have, where it has more keys than there are: pydantic names all.

    Raises:
        InvalidValueError: there is one.
    """
    if len(content) > len(kind.model_fields):
        key = next(key for key in content if key not in kind.model_fields)
        raise _unknown(f"{inside}{_step(key)}".removeprefix("."), content[key])


def as_invalid_value(error: ValidationError, inside: str = "") -> InvalidValueError:
    """The first problem of a body as an error; `inside` is the key that the body stands under."""
    problem = error.errors(include_url=False)[0]
    place = [part for before, part in pairwise(("", *problem["loc"])) if before not in TAGGED]
    key = f"{inside}{''.join(map(_step, place))}".removeprefix(".")
    if problem["type"] in BAD_TAG:
        return _bad_tag(key, problem)
    if problem["type"] == "extra_forbidden":
        return _unknown(key, problem["input"])
    if problem["type"] == "missing":
        return InvalidValueError(key, "is missing")
    return InvalidValueError(key or "body", f"{shown(problem['input'])}: {problem['msg']}")


def _unknown(key: str, value: Any) -> InvalidValueError:
    return InvalidValueError(key, f"unknown key (its value is {shown(value)})")


def _bad_tag(key: str, problem: ErrorDetails) -> InvalidValueError:
    tag = problem["ctx"]["discriminator"].strip("'")
    if problem["type"] == "union_tag_not_found":
        return InvalidValueError(f"{key}.{tag}", "is missing")
    value = problem["input"][tag]
    return InvalidValueError(f"{key}.{tag}", f"{shown(value)}: must be one of {problem['ctx']['expected_tags']}")


def _step(part: str | int) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{part[:SHOWN_CHARACTERS]}"


def _or_null(described: JsonSchemaValue) -> JsonSchemaValue:
    """A schema that null fulfils too."""
    if NULL in described.get("anyOf", ()):
        return described
    about = {name: described[name] for name in ("default", "description", "title") if name in described}
    kind = {name: value for name, value in described.items() if name not in about}
    return about | {"anyOf": [kind, NULL]}


def _not_null(described: JsonSchemaValue) -> JsonSchemaValue:
    """The schema of a number or null without null, neither as a value nor as the default."""
    about: JsonSchemaValue = {name: value for name, value in described.items() if name not in {"default", "anyOf"}}
    (kind,) = (each for each in described["anyOf"] if each != NULL)
    return {**about, **kind}
