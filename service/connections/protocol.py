"""HTTP/1.1 by uvicorn and httptools, with limits on what a connection may send and how long it may take."""

import asyncio
import time
from itertools import chain
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from noisevote.service.connections.beginning import BeginsInTurns
from noisevote.service.connections.door import Door
from noisevote.service.connections.header_rules import fault_of
from noisevote.service.connections.held_bytes import SHORT_BODY_BYTES, HeldBytes
from noisevote.service.connections.joining import JoiningTransport
from noisevote.service.connections.limits import Phase
from noisevote.service.connections.upgrade import head_without_upgrade
from noisevote.service.errors import (
    DrainingError,
    HeaderTooLargeError,
    InvalidHttpError,
    ServiceError,
    TooSlowError,
)
from noisevote.service.metrics import CONNECTION_LIMIT
from noisevote.service.rest.disconnection import DEPARTURE, Departure
from noisevote.service.rest.edge import ARRIVED
from noisevote.service.rest.error_responses import response_of

# Bytes of framing that each byte of a chunked body may bring along: it takes six in chunks of one byte.
FRAMING: Final = 8
# What a header line has beside its name and value.
LINE_BYTES: Final = 4
# Requests that may wait on one connection until those before them are answered.
MOST_WAITING: Final = 64


class LimitedProtocol(BeginsInTurns):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._wire_bytes = self._body_bytes = 0  # of the request that is coming
        self._begun = 0  # requests whose first byte was among the last bytes
        self._noted: Phase | None = None
        self._held = HeldBytes(self.door)
        self._receiving = False  # between a request's first byte and its last
        self._headers_done = False
        self._upgrade_ignored = False
        self._refused = False
        self._unfit: ServiceError | None = None  # what is the matter with what follows requests that are still answered
        self.url = b""
        self._announced = 0  # bytes of the body that is coming
        self._arrived: float | None = None  # when the next request did, if it is the first of what comes

    # ------------------------------------------------------------------ the connection
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Open it, and close another for it at the limit."""
        super().connection_made(transport)
        connections = self.door.connections
        leaving = connections.admit(self, self.client[0] if self.client else "", time.monotonic())
        if leaving is not None:
            self.door.warn(
                "connections: at the limit (%d open, NOISEVOTE_MAX_CONNECTIONS or the process's open files, or one "
                "address at its own); the longest without a complete request is closed for each new one",
                len(connections) - 1,
            )
            self.door.refused(CONNECTION_LIMIT)
            leaving.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._leave()
        self._give_up_answering()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def drop(self) -> None:
        """Close it at once, without a word."""
        self._leave()
        super().drop()

    def _give_up_answering(self) -> None:
        """Tell whoever computes an answer that nobody waits for it."""
        self.pipeline.clear()
        for cycle in (self._answering, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cast("dict[str, Any]", cycle.scope)[DEPARTURE].tell()
                cycle.disconnected = True
                cycle.message_event.set()

    def _flush(self) -> None:
        """Send the header of an answer that waits for its body."""
        if self._answering is not None:
            cast("JoiningTransport", self._answering.transport).flush()

    def _leave(self) -> None:
        self._held.release(self)
        self.begin_nothing()
        self.door.deaf.pop(self, None)
        self.door.connections.leave(self)

    def pause_writing(self) -> None:
        """Its client does not take its answer."""
        super().pause_writing()
        self.door.deaf[self] = time.monotonic()

    def resume_writing(self) -> None:
        """Its client takes its answer again."""
        super().resume_writing()
        self.door.deaf.pop(self, None)

    def timeout_keep_alive_handler(self) -> None:
        """Close it after its idle time, with what its client did not take."""
        if self.transport.get_write_buffer_size():
            self.drop()
        else:
            super().timeout_keep_alive_handler()

    def too_slow(self, phase: Phase) -> None:
        """Close it, with an answer where one is waited for."""
        if phase is Phase.BODY:
            limits = self.door.connections.limits
            rule = f"silent for {limits.body_seconds:g} s, or under {limits.min_body_rate:g} bytes/s"
            self.refuse(TooSlowError(f"body: it did not arrive in time ({rule})"))
        elif phase is Phase.HEADER and self._receiving:
            seconds = self.door.connections.limits.header_seconds
            self.refuse(TooSlowError(f"header: it was not complete after {seconds:g} s"))
        else:
            self.drop()

    def shutdown(self) -> None:
        """End it when its answer is complete; refuse a body that is not."""
        if self.door.connections.phase(self) is Phase.BODY and not self._answered():
            self.refuse(DrainingError("draining: the server ends before the body was complete"))
        self._flush()
        if self._refused:
            self.transport.close()
        else:
            super().shutdown()

    # ------------------------------------------------------------------ what comes
    @property
    def coming(self) -> int:
        """Bytes that have come of a request of which more must come."""
        return self._wire_bytes if self._receiving else 0

    @property
    def to_come(self) -> int:
        """Bytes that are known to come of the body of such a request."""
        return self._announced - self._body_bytes if self._receiving and self._headers_done else 0

    @property
    def wants_more(self) -> bool:
        """What came before has been taken."""
        return not self.flow.read_paused

    def arrived(self, seconds: float) -> None:
        """The next request did so then, in seconds of the performance counter."""
        self._arrived = seconds

    def data_received(self, data: bytes | memoryview) -> None:
        """Feed the parser, within the limits."""
        if self._refused or self._unfit is not None:
            return
        self._unset_keepalive_if_required()
        was_receiving, body_before, self._begun = self._receiving, self._body_bytes, 0
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_in_http_1(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._refuse_unparsable(error)
            return
        if self._receiving:
            if self._begun == (0 if was_receiving else 1):  # these bytes are of this request alone
                self._wire_bytes += len(data)
            self._note_unfinished(self._body_bytes - (0 if self._begun else body_before))

    def _note_unfinished(self, received: int) -> None:
        """Look at a request of which more must come; so many bytes of its body have just come.

        The parser gathers a header that is not complete and tells nothing of it, nor of what lies between chunks.
        """
        if self._wire_bytes - self._body_bytes > self.door.max_header_bytes + FRAMING * self._body_bytes:
            self._refuse_in_turn(HeaderTooLargeError(self.door.max_header_bytes))
            return
        if self._refused or not (self._answered() or (self._headers_done and not self.pipeline)):
            return  # an earlier request is being answered
        phase = Phase.BODY if self._headers_done else Phase.HEADER
        if phase is not self._noted:
            self._enter(phase)
        self.door.connections.heard(self, received, time.monotonic())

    def _enter(self, phase: Phase) -> None:
        self._noted = phase
        self.door.connections.enter(self, phase, time.monotonic())

    def _refuse_unparsable(self, error: httptools.HttpParserError) -> None:
        """Refuse what the parser does not take."""
        if isinstance(error.__context__, _TooManyError):
            self.refuse(InvalidHttpError(f"http: more than {MOST_WAITING} requests wait for those before them"))
            return
        if isinstance(error.__context__, _UnfitError):
            self._refuse_in_turn(error.__context__.fault)
        else:
            self.door.warn("invalid HTTP was refused")
            self._refuse_in_turn(InvalidHttpError(f"http: the request cannot be parsed ({str(error)[:200]})"))

    def _refuse_in_turn(self, problem: ServiceError) -> None:
        """Refuse what is coming, once the requests before it are answered; nothing that follows is read."""
        if self.pipeline and self.pipeline[0][0].scope is self.scope:
            self.pipeline.popleft()  # it is in the body of the last that waits
        elif self._answered() or self.cycle.scope is self.scope:
            self.refuse(problem)
            return
        self._unfit = problem

    def _go_on_in_http_1(self, rest: bytes | memoryview) -> None:
        """Read a request that asks for another protocol again, without that wish, and what follows it."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse_in_turn(InvalidHttpError("http: CONNECT is for proxies"))
            return
        head = head_without_upgrade(method, self.url, self.parser.get_http_version(), self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(head + bytes(rest))

    # ------------------------------------------------------------------ the parser's calls
    def on_message_begin(self) -> None:
        """A request's first byte."""
        if len(self.pipeline) >= MOST_WAITING:
            raise _TooManyError
        super().on_message_begin()
        arrived, self._arrived = self._arrived, None
        cast("dict[str, Any]", self.scope)[ARRIVED] = time.perf_counter() if arrived is None else arrived
        self._begun += 1
        self._wire_bytes = self._body_bytes = self._announced = 0
        self._receiving, self._headers_done, self._upgrade_ignored = True, False, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer behind the body, which must not count as one (RFC 9110, 6.5.1).

        The parser leaves the spaces behind a value, which are no part of it (RFC 9110, 5.5).
        """
        if not self._headers_done:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """The application may begin, unless the request has to be read again."""
        self._headers_done = True
        if self._refused:
            return
        if self.parser.should_upgrade():
            self._upgrade_ignored = True
            return
        size = len(self.url) + LINE_BYTES * len(self.headers) + sum(map(len, chain.from_iterable(self.headers)))
        if size > self.door.max_header_bytes:
            raise _UnfitError(HeaderTooLargeError(self.door.max_header_bytes))
        if fault := fault_of(self.parser.get_http_version(), self.headers):
            raise _UnfitError(fault)
        self._announced = int(dict(self.headers).get(b"content-length", 0))  # the parser has refused what is no number
        cast("dict[str, Any]", self.scope)[DEPARTURE] = Departure(self.flow.resume_reading)
        super().on_headers_complete()
        joining = JoiningTransport(self.transport, self.loop)
        self.cycle.transport = joining  # type: ignore[assignment]  # as much of it as answers need

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._upgrade_ignored or self._refused:
            return
        self._body_bytes += len(body)
        counted = self._body_bytes > SHORT_BODY_BYTES and not self.cycle.response_complete
        if counted and not self._held.grow(self, self._body_bytes):
            return
        if len(body) > HIGH_WATER_LIMIT and not self.cycle.body and not self.cycle.response_complete:
            self.cycle.body = body  # type: ignore[assignment]  # uncopied: none follows until this is taken
            self.flow.pause_reading()
            self.cycle.message_event.set()
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request's last byte."""
        self._receiving = False
        if self._upgrade_ignored or self._refused:
            return
        if self._held:
            self._held.release(self)
        if not self._answered():
            self._enter(Phase.ANSWER)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer's last byte."""
        if self._held:
            self._held.release(self)
        queued = bool(self.pipeline)
        super().on_response_complete()
        if self._receiving:
            phase = Phase.BODY if self._headers_done else Phase.HEADER
        else:
            phase = Phase.ANSWER if queued else Phase.IDLE
        self._enter(phase)
        if self._unfit is not None and not queued:
            self.refuse(self._unfit)

    def _answered(self) -> bool:
        """No request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    # ------------------------------------------------------------------ answers of the server itself
    def refuse(self, error: ServiceError) -> None:
        """Answer with an error where nothing was answered yet, and close once the client has had time to read it."""
        if self._refused:
            return
        self._refused = True
        self.door.refused(error.code)
        self._held.release(self)
        self.begin_nothing()
        answering = self._answering
        silent = answering is None or answering.response_complete or not answering.response_started
        self._give_up_answering()
        self._flush()
        if silent and not self.transport.is_closing():
            self._write(error)
            self.door.connections.enter(self, Phase.REFUSED, time.monotonic())
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.flow.resume_reading()
        else:
            self.transport.close()

    def _asked(self) -> dict[str, Any]:
        """What is known of the request that is refused, as the application would be told."""
        return {"path": self.url.partition(b"?")[0].decode("latin-1")}

    def _write(self, error: ServiceError) -> None:
        response = response_of(error, self._asked())
        content = [STATUS_LINE[response.status_code]]
        for name, value in [*self.server_state.default_headers, *response.raw_headers]:
            if name != b"connection":
                content += [name, b": ", value, b"\r\n"]
        content += [b"connection: close\r\n\r\n", bytes(response.body)]
        self.transport.write(b"".join(content))


class _TooManyError(Exception):
    """Raised within the parser's calls, which makes the parser stop."""


class _UnfitError(Exception):
    """Raised there too, with what is wrong with the header."""

    def __init__(self, fault: ServiceError) -> None:
        super().__init__()
        self.fault = fault


def protocol_of(door: Door) -> type[LimitedProtocol]:
    """The protocol of a server's connections, which share this door."""
    return type("LimitedProtocol", (LimitedProtocol,), {"door": door})
