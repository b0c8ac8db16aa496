"""Answers that are JSON already."""

import pytest
from fastapi import Response

from noisevote.service.rest.json_answer import JsonAnswer


@pytest.mark.parametrize("content", [b"{}", b'{"votes": 20}' * 100])
async def test_it_is_the_answer_that_the_framework_makes(content: bytes) -> None:
    """The same messages, header by header, for the same bytes."""
    sent: list[list[object]] = []
    for answer in (JsonAnswer(content), Response(content, media_type="application/json")):
        messages: list[object] = []

        async def send(message: object, to: list[object] = messages) -> None:
            to.append(message)

        await answer({"type": "http"}, None, send)  # type: ignore[arg-type]  # nothing is received
        sent.append(messages)
    assert sent[0] == sent[1]
    assert len(sent[0]) == 2
