"""Base64 as programs, browsers and mail write it."""

import base64
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisevote.service.errors import InvalidValueError
from noisevote.service.prediction.base64_text import base64_bytes


@given(st.binary(min_size=1), st.sampled_from(["\n", "\r\n", " ", "\t"]))
def test_what_people_send_is_read(content: bytes, space: str) -> None:
    """Plain, in lines, with a newline at the end, url-safe, unpadded, as a data URL, and all of it at once."""
    plain = base64.b64encode(content).decode()
    url_safe = base64.urlsafe_b64encode(content).decode()
    wrapped = space.join(textwrap.wrap(plain, 76))
    for text in (
        plain,
        plain + space,
        wrapped,
        url_safe,
        plain.rstrip("="),
        url_safe.rstrip("=") + space,
        f"data:image/png;base64,{plain}",
        f"DATA:image/jpeg;name=a.jpg;BASE64,{url_safe.rstrip('=')}",
        f" data:;base64,{space}{wrapped}{space}",
    ):
        assert base64_bytes(text, "key") == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A*AA", "key: 'A*AA' is not base64 (Only base64 data is allowed); send base64, or a data URL of it"),
        ("AAAAA", "key: 'AAAAA' is not base64"),
        ("AA=A", "key: 'AA=A' is not base64"),
        ("αβγδ", "key: 'αβγδ' is not base64"),
        ("AA%2B", "key: 'AA%2B' is not base64"),
        ("data:image/png,AAAA", "key: 'data:image/png,AAAA' is a data URL without ;base64, before its content"),
        ("data:image/png;base64", "key: 'data:image/png;base64' is a data URL without ;base64,"),
        ("https://example.org/7.png", "key: 'https://example.org/7.png' is not base64"),
    ],
)
def test_what_is_no_base64_is_refused(text: str, message: str) -> None:
    """With what to send instead."""
    with pytest.raises(InvalidValueError) as refused:
        base64_bytes(text, "key")
    assert str(refused.value).startswith(message)


def test_a_long_text_is_cut_in_the_message() -> None:
    """Nobody reads a megabyte of it."""
    with pytest.raises(InvalidValueError) as refused:
        base64_bytes("*" * 10**6, "key")
    assert len(str(refused.value)) < 300
