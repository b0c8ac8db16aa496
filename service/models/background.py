"""Work beside the event loop, on threads that keep no process from ending, unlike those of `asyncio.to_thread`."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

# How long what is given up may take to end: the run or the file that is under way.
ABANDON_S: Final = 1.0


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


async def until_cancelled(function: Callable[[], Result], abandon: Callable[[], None]) -> Result:
    """What a function returns on a thread of its own. Cancelled, `abandon` it and wait a moment for it to end."""
    future = in_thread(function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        abandon()
        await asyncio.wait({future}, timeout=ABANDON_S)
        raise


class BackgroundTasks:
    """Tasks that nobody waits for, until they are cancelled together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it beside everything else."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cancel(self) -> None:
        """End all of them."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
