"""How much of the queue an inference request asks for, told without validating it."""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from noisevote.service.open_inference.inputs import INPUT
from noisevote.service.open_inference.options import DEFAULTS
from noisevote.service.rest.admission import Demand
from noisevote.service.rest.v2.parse import HEADER_LENGTH, MOST_DIGITS
from noisevote.service.validation import integral

PATH: Final = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/infer$")
HEADER: Final = HEADER_LENGTH.encode()


def demand(body: bytes, headers: Mapping[bytes, bytes]) -> Demand | None:
    """What a body asks for; None if that cannot be told, because it is not valid or says its votes in a tensor."""
    length = headers.get(HEADER)
    if length is not None and not (length.isdigit() and len(length) <= MOST_DIGITS):
        return None
    if length is not None and not int(length):
        return Demand(1, DEFAULTS.votes, None)
    try:
        asked = orjson.loads(body if length is None else body[: int(length)])
        inputs = next(_inputs(each) for each in asked["inputs"] if each["name"] == INPUT)
        parameters = asked.get("parameters") or {}
        votes, deadline_ms = integral(parameters.get("votes", DEFAULTS.votes)), parameters.get("deadline_ms")
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration):
        return None
    told = type(inputs) is int and type(votes) is int and type(deadline_ms) in (int, float, type(None))
    in_tensors = any(each.get("name") == "votes" for each in asked["inputs"])
    return Demand(inputs, votes, deadline_ms) if told and not in_tensors else None


def _inputs(tensor: Mapping[str, Any]) -> Any:
    return tensor["shape"][0]
