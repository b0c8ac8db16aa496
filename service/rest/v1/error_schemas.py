"""How `/v1` says what is wrong, as documented; service/rest/error_responses.py writes it."""

from noisevote.service.validation import Body


class Problem(Body):
    """Why a request was not answered."""

    code: str
    """for programs"""
    message: str
    """for people: names the key and the value"""


class ErrorResponse(Body):
    """Every answer that is not a success."""

    error: Problem
