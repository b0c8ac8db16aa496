"""`python -m noisevote.service` and `noisevote serve`: one process, uvicorn with uvloop and httptools."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from noisevote.engine.free_memory import let_go_of_code
from noisevote.engine.trial_process import TrialProcess
from noisevote.service.app import create_app
from noisevote.service.connections import descriptors
from noisevote.service.connections.accepting import Acceptor
from noisevote.service.connections.arrival import waited_s
from noisevote.service.connections.door import Door
from noisevote.service.connections.limits import ConnectionLimits, OpenConnections
from noisevote.service.connections.protocol import LimitedProtocol, protocol_of
from noisevote.service.connections.reading import Reader
from noisevote.service.once import RareTracebacks
from noisevote.service.output import log_to_stderr, say
from noisevote.service.prediction.policy import PolicyFileError
from noisevote.service.rest.access import Access, access_at, how_to_use
from noisevote.service.runtime import FLUSH_SECONDS, Runtime
from noisevote.service.settings import Settings, SettingsError, read_settings

logger = logging.getLogger(__name__)

# Of FLUSH_SECONDS, how long connections may take to close; the rest is for all else.
CLOSE_SECONDS: Final = 0.5
SWEEP_SECONDS: Final = 1.0
NEXT_SWEEP_SECONDS: Final = 0.005  # where there are more of them; meanwhile others have their turns
# Connections that wait to be accepted.
BACKLOG: Final = 128
# Collections of what is younger between two of all that Python could have to collect; 10 by default.
FULL_COLLECTION_EVERY: Final = 1000
# Longer than the minute for which load balancers usually keep connections, or they would use closed ones.
KEEP_ALIVE_SECONDS = 75


def main(arguments: Sequence[str] | None = None, ahead: TrialProcess | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM. Returns the exit status: 0 after either, 1 if nothing can be served.

    `ahead` was started to try files.
    """
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments)
    except SettingsError as error:
        say(f"noisevote: {error}", sys.stderr)
        return 2
    log_to_stderr(settings.log_level, settings.log_format)
    for handler in logging.getLogger().handlers:
        handler.addFilter(RareTracebacks())
    try:
        listening = _listen(settings)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "this is no host's name"
        say(f"noisevote: cannot listen on {settings.host} port {settings.port}: {why}", sys.stderr)
        return 1
    with listening:
        try:
            access = access_at(settings, loopback=ip_address(listening.getsockname()[0]).is_loopback)
        except SettingsError as error:
            say(f"noisevote: {error}", sys.stderr)
            return 2
        return _serve(settings, listening, access, ahead)


def _listen(settings: Settings) -> socket.socket:
    """Take the port before anything is loaded: two sockets can be bound to it, but only one can listen.

    Connections wait in the socket's queue until the server accepts them.
    """
    (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


class _Server(uvicorn.Server):
    """Drains before it ends, so that until then it can tell clients to go elsewhere; and ends within the grace time."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime, door: Door) -> None:
        super().__init__(config)
        self._runtime = runtime
        self._door = door
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._acceptors: list[Acceptor] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Note the event loop, for signals to reach it, and begin to look for connections that take too long."""
        self._loop = asyncio.get_running_loop()
        self._sweep(self._loop)
        if hasattr(signal, "SIGHUP"):
            self._loop.add_signal_handler(signal.SIGHUP, self._runtime.refresh_soon)
        await super().startup([])  # the application alone
        self._acceptors = [Acceptor(each, self._make_protocol, self._door.warn) for each in sockets or ()]
        for acceptor in self._acceptors:
            acceptor.start()

    def _make_protocol(self, connection: socket.socket) -> Reader:
        make: type[LimitedProtocol] = self.config.http_protocol_class  # type: ignore[assignment]  # it was configured so
        protocol = make(self.config, self.server_state, self.lifespan.state)
        return Reader(protocol, self._door.reading, partial(waited_s, connection))

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(NEXT_SWEEP_SECONDS if self._door.sweep() else SWEEP_SECONDS, self._sweep, loop)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; a thread that still loads a model is not waited for."""
        for acceptor in self._acceptors:
            acceptor.close()
        await super().shutdown(sockets)
        if self._runtime.loading:
            self._end_now()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, a second one ends at once."""
        if self._draining is not None:
            super().handle_exit(sig, frame)
            return
        self._end_in_time()
        if self._loop is None:
            super().handle_exit(sig, frame)
        else:
            self._loop.call_soon_threadsafe(self._drain, sig, frame)

    def _end_in_time(self) -> None:
        """End at the grace time whatever threads do, and shortly after it even where they keep the interpreter."""
        seconds = max(self._runtime.settings.grace_seconds, FLUSH_SECONDS)
        timer = threading.Timer(seconds, self._end_now)
        timer.daemon = True
        timer.start()
        if hasattr(signal, "alarm"):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds + 1)

    def _end_now(self) -> None:
        self._runtime.abandon()
        logging.shutdown()
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(0)

    def _drain(self, sig: int, frame: FrameType | None) -> None:
        self._draining = self._draining or asyncio.create_task(self._drained(sig, frame), name="drain")

    async def _drained(self, sig: int, frame: FrameType | None) -> None:
        self._door.drain()
        await self._runtime.drain()
        super().handle_exit(sig, frame)


def _serve(settings: Settings, listening: socket.socket, access: Access, ahead: TrialProcess | None) -> int:
    def on_start(runtime: Runtime) -> None:
        gc.freeze()  # what stays for good need not be looked through again, a tenth of a second each time
        # Nor need what lasts be often: with 2000 connections open that takes 50 ms, in which nobody is answered.
        gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION_EVERY)
        let_go_of_code()
        if runtime.problem is None:
            _announce(runtime, listening, access)
        else:
            say(f"noisevote: {runtime.problem}", sys.stderr)
            server.should_exit = True

    try:
        app = create_app(settings, on_start=on_start, access=access, ahead=ahead)
    except PolicyFileError as error:
        say(f"noisevote: policies: {error}", sys.stderr)
        return 2
    except SettingsError as error:
        say(f"noisevote: {error}", sys.stderr)
        return 2
    runtime: Runtime = app.state.runtime
    door = _door(settings, runtime)
    server = _Server(_configuration(app, settings, door), runtime, door)
    # uvicorn ends gracefully and then raises the signal once more, for whoever handled it before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.run(sockets=[listening])
    except (KeyboardInterrupt, SystemExit) as end:
        return int(end.code or 0) if isinstance(end, SystemExit) else 0
    return 0 if runtime.problem is None else 1


def _announce(runtime: Runtime, listening: socket.socket, access: Access) -> None:
    """Say where the server is, what it serves, and how to get in."""
    host, port = listening.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    settings = runtime.settings
    also = "" if settings.grpc_port is None else f" | gRPC on port {settings.grpc_port}"
    say(f"noisevote on {address}{also} | {runtime.summary()}", sys.stdout)
    if access.made_key is not None:
        say(f"its key, for this run: {how_to_use(access.made_key, address)}", sys.stdout)
    if settings.open:
        open_page(listening, settings.root_path)


def _configuration(app: FastAPI, settings: Settings, door: Door) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol_of(door),
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=CLOSE_SECONDS,  # type: ignore[arg-type]  # it is what asyncio takes
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


def open_page(listening: socket.socket, root_path: str) -> None:
    """Show the server's page in this machine's browser; on a thread, since finding one may take seconds."""
    host, port = listening.getsockname()[:2]
    shown = "127.0.0.1" if ip_address(host).is_unspecified else f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}{root_path}/"

    def show() -> None:
        if not webbrowser.open(address):
            logger.warning("open: no browser was found; the page is at %s", address)

    threading.Thread(target=show, name="open the page", daemon=True).start()


def _door(settings: Settings, runtime: Runtime) -> Door:
    """What connections share, with room for as many as the process may open."""
    files = descriptors.raise_limit()
    limits = ConnectionLimits.of(settings, descriptors.left_for_connections(files))
    if limits.connections < settings.max_connections:
        logger.warning(
            "connections: at most %d, not %d: this process may open %d files",
            limits.connections, settings.max_connections, files,
        )  # fmt: skip
    return Door(settings, OpenConnections(limits), runtime.unread, runtime.metrics.refuse)


if __name__ == "__main__":
    sys.exit(main())
