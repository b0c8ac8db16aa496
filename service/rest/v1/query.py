"""Reads a body that says everything: its keys have no meaning in the query."""

from fastapi import Request
from pydantic import BaseModel

from noisevote.service.errors import InvalidValueError
from noisevote.service.rest.body import read_json_body
from noisevote.service.validation import shown


async def read_whole_request(request: Request, limit: int, body: type[BaseModel]) -> bytes:
    """The body of a request whose query holds none of the keys of `body`; other keys are of gateways, and ignored.

    Raises:
        InvalidValueError: a key of the body is in the query, where it would change nothing.
        ServiceError: see `read_json_body`.
    """
    if request.scope["query_string"]:
        keys = {field.alias or name for name, field in body.model_fields.items()}
        for key, value in request.query_params.multi_items():
            if key in keys:
                raise InvalidValueError(key, f"{shown(value)} in the query; it is a key of the JSON body")
    return await read_json_body(request, limit)
