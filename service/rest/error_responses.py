"""An error as an answer: `{"error": {"code": …, "message": …}}`."""

from collections.abc import Mapping

import orjson
from starlette.responses import Response

from noisevote.service.errors import ServiceError


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer; the message is for people, the code for programs."""
    printable = message.encode(errors="backslashreplace").decode()  # a key may hold half a surrogate pair
    content = orjson.dumps({"error": {"code": code, "message": printable}})
    return Response(content, status, headers, media_type="application/json")


def response_of(error: ServiceError) -> Response:
    """The answer that an error of ours becomes."""
    return error_response(error.status, error.code, str(error), error.headers)
