"""Begins to answer a few requests in each turn of the event loop: each keeps it for some tenths of a millisecond."""

from uvicorn._types import ASGI3Application  # as its signatures have it
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from noisevote.service.connections.door import Door
from noisevote.service.connections.loop_turns import LoopTurns
from noisevote.service.rest.openings import HEALTH


class BeginsInTurns(HttpToolsProtocol):
    """A connection whose answers begin when there is a turn for them."""

    door: Door  # set by `protocol_of`
    _answering: RequestResponseCycle | None = None  # the last that began; `cycle` is the last that came
    _beginning: tuple[RequestResponseCycle, ASGI3Application] | None = None  # an answer that waits for a turn

    def drop(self) -> None:
        """Close the connection at once, without a word."""
        self.transport.abort()

    def go_on(self) -> None:
        """Begin to answer what waited for its turn."""
        if self._beginning is not None:
            beginning, self._beginning = self._beginning, None
            self._begin(*beginning)

    def begin_nothing(self) -> None:
        """Forget what waits for its turn."""
        if self._beginning is not None:
            self._turns(self._beginning[0]).leave(self)
            self._beginning = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin to answer, if this turn has room for it.

        What monitors ask has turns of its own, so that others do not keep it waiting.
        """
        if self._turns(cycle).arrive(self):
            self._begin(cycle, app)
        else:
            self._beginning = cycle, app

    def _turns(self, cycle: RequestResponseCycle) -> LoopTurns:
        return self.door.monitored if HEALTH.fullmatch(cycle.scope["path"]) else self.door.answering

    def _begin(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)
