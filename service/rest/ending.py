"""Answers requests that the server's end cuts short."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from noisevote.service.errors import DrainingError
from noisevote.service.rest.error_responses import response_of


class AnsweredAtTheEnd:
    """Middleware around the application: whoever is still without an answer when its task is cancelled is told why."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; answer 503 if that is cancelled before an answer began."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if begun:
                raise
            error = DrainingError("draining: the server ends before this was answered")
            await response_of(error, scope)(scope, receive, send)
