"""Work on a thread that keeps no process from ending, unlike those of `asyncio.to_thread`."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


def in_thread(function: Callable[[], Result]) -> asyncio.Future[Result]:
    """What a function returns, once it has on a thread of its own."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def set_result(outcome: Result) -> None:
        if not future.done():
            future.set_result(outcome)

    def set_exception(error: Exception) -> None:
        if not future.done():
            future.set_exception(error)
            future.exception()  # nobody may be waiting for it any more

    def run() -> None:
        try:
            outcome = function()
        except Exception as error:
            tell(set_exception, error)
        else:
            tell(set_result, outcome)

    def tell(done: Callable[..., None], value: object) -> None:
        with suppress(RuntimeError):  # the event loop has ended meanwhile
            loop.call_soon_threadsafe(done, value)

    threading.Thread(target=run, name="load models", daemon=True).start()
    return future
