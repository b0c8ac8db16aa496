"""How much of the queue a request's body asks for, told without validating it."""

import re
from collections.abc import Mapping
from typing import Final

import orjson

from noisevote.service.rest.admission import Demand
from noisevote.service.rest.v1.schemas import DEFAULTS
from noisevote.service.validation import integral

PATH: Final = re.compile(r"/v1/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/predict(?:/stream)?$")


def demand(body: bytes, _: Mapping[bytes, bytes]) -> Demand | None:
    """What a body asks for; None if that cannot be told, because it is not valid."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(asked, dict):
        return None
    inputs, votes, deadline_ms = asked.get("inputs"), integral(asked.get("votes")), asked.get("deadline_ms")
    if votes is None:
        votes = DEFAULTS.votes
    if not isinstance(inputs, list) or type(votes) is not int or type(deadline_ms) not in (int, float, type(None)):
        return None
    return Demand(len(inputs), votes, deadline_ms)
