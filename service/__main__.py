"""`python -m noisevote.service` and `noisevote serve`: one process, uvicorn with uvloop and httptools."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn

from noisevote.service.app import create_app
from noisevote.service.prediction.policy import PolicyFileError
from noisevote.service.runtime import FLUSH_SECONDS, Runtime
from noisevote.service.settings import Settings, SettingsError, read_settings

# Longer than the minute for which load balancers usually keep connections, or they would use closed ones.
KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM. Returns the exit status: 0 after either, 1 if nothing can be served."""
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments)
    except SettingsError as error:
        print(f"noisevote: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    try:
        listening = _listen(settings)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "this is no host's name"
        print(f"noisevote: cannot listen on {settings.host} port {settings.port}: {why}", file=sys.stderr)
        return 1
    with listening:
        return _serve(settings, listening)


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
    """Drains before it ends, so that until then it can tell clients to go elsewhere."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime) -> None:
        super().__init__(config)
        self._runtime = runtime
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Note the event loop, for signals to reach it."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, a second one ends at once."""
        if self._loop is None or self._draining is not None:
            super().handle_exit(sig, frame)
        else:
            self._loop.call_soon_threadsafe(self._drain, sig, frame)

    def _drain(self, sig: int, frame: FrameType | None) -> None:
        self._draining = self._draining or asyncio.create_task(self._drained(sig, frame), name="drain")

    async def _drained(self, sig: int, frame: FrameType | None) -> None:
        await self._runtime.drain()
        super().handle_exit(sig, frame)


def _serve(settings: Settings, listening: socket.socket) -> int:
    host, port = listening.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def on_start(runtime: Runtime) -> None:
        if runtime.problem is None:
            print(f"noisevote on {address} | {runtime.summary()}", flush=True)
        else:
            print(f"noisevote: {runtime.problem}", file=sys.stderr)
            server.should_exit = True

    try:
        app = create_app(settings, on_start=on_start)
    except PolicyFileError as error:
        print(f"noisevote: policies: {error}", file=sys.stderr)
        return 2
    runtime: Runtime = app.state.runtime
    server = _Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=FLUSH_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            backlog=BACKLOG,
        ),
        runtime,
    )
    # uvicorn ends gracefully and then raises the signal once more, for whoever handled it before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.run(sockets=[listening])
    except (KeyboardInterrupt, SystemExit) as end:
        return int(end.code or 0) if isinstance(end, SystemExit) else 0
    return 0 if runtime.problem is None else 1


if __name__ == "__main__":
    sys.exit(main())
