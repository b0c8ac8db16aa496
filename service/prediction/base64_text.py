"""Reads base64 as programs, browsers and mail write it."""

import binascii
from typing import Final

from noisevote.service.errors import InvalidValueError
from noisevote.service.validation import shown

DATA_URL: Final = "data:"
URL_SAFE: Final = str.maketrans("-_", "+/")


def base64_bytes(text: str, key: str) -> bytes:
    """The bytes: of plain base64, url-safe or not, padded or not, in lines or not, or of a data URL of such.

    Raises:
        InvalidValueError: it is nothing of these.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        pass
    # Split at white space, which has no meaning; padding says nothing that the length does not.
    plain = "".join(_without_data_url(text, key).split()).translate(URL_SAFE).rstrip("=")
    try:
        return binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
    except ValueError as error:
        problem = f"{shown(text)} is not base64 ({error}); send base64, or a data URL of it (data:image/png;base64,…)"
        raise InvalidValueError(key, problem) from None


def _without_data_url(text: str, key: str) -> str:
    """What comes after `data:image/png;base64,` if the text begins so."""
    start = text[:1000].lstrip()
    if start[: len(DATA_URL)].lower() != DATA_URL:
        return text
    kind, comma, content = text.partition(",")
    if not comma or not kind.rstrip().lower().endswith(";base64"):
        raise InvalidValueError(key, f"{shown(text)} is a data URL without ;base64, before its content")
    return content
