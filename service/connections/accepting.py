"""Accepts connections, a few at a time.

An event loop accepts all that wait in a listening socket, and those that come meanwhile, before anybody else has a
turn: thousands of clients that connect at once would keep the others waiting for as long as it takes to welcome each.
"""

import asyncio
import errno
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from noisevote.service.connections.arrival import stamp_what_comes

# Welcoming one takes about a tenth of a millisecond, and as much for each piece that it sends at once.
AT_ONCE: Final = 16
# Where a turn of the event loop takes longer, of its own processor time, fewer are accepted in the next ones.
LONG_TURN_S: Final = 0.01
# Where the process or the system has no room for another one, it is asked again after so long.
PAUSE_S: Final = 0.1
NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# Logs a message, with what it is about.
Warn = Callable[[str, str], None]


class Acceptor:
    """Accepts the connections of a listening socket, at most `AT_ONCE` of them in each turn of the event loop.

    What those send that were accepted is read in the turns that follow, all that has come of it. So half as many are
    accepted after a turn that took long, and one more after each that did not. `clock` gives seconds of processor time.
    """

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[socket.socket], asyncio.BaseProtocol],
        warn: Warn,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._listening = listening
        self._clock = clock
        self._most = AT_ONCE
        self._stopped: float | None = None  # when more may have waited than were accepted
        self._make_protocol = make_protocol
        self._warn = warn
        self._welcoming: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to accept, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._listening.setblocking(False)
        stamp_what_comes(self._listening)
        self._listen(self._loop)

    def close(self) -> None:
        """Accept no more. The socket is for its owner to close."""
        if self._loop is not None:
            self._loop.remove_reader(self._listening)
        if self._pause is not None:
            self._pause.cancel()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        self._pause = None
        loop.add_reader(self._listening, self._accept, loop)

    def _fitting(self) -> int:
        """How many to accept now, by what the event loop has computed since the last turn left some waiting."""
        long = self._stopped is not None and self._clock() - self._stopped > LONG_TURN_S
        self._most = max(1, self._most // 2) if long else min(AT_ONCE, self._most + 1)
        self._stopped = None
        return self._most

    def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(self._fitting()):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:  # it was given up while it waited
                continue
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                self._warn("connections: none can be accepted now: %s", str(error))
                loop.remove_reader(self._listening)
                self._pause = loop.call_later(PAUSE_S, self._listen, loop)
                return
            connection.setblocking(False)
            welcoming = loop.create_task(_welcome(loop, self._make_protocol, connection))
            self._welcoming.add(welcoming)
            welcoming.add_done_callback(self._welcoming.discard)
        self._stopped = self._clock()


async def _welcome(
    loop: asyncio.AbstractEventLoop,
    make_protocol: Callable[[socket.socket], asyncio.BaseProtocol],
    connection: socket.socket,
) -> None:
    try:
        await loop.connect_accepted_socket(partial(make_protocol, connection), connection)
    except OSError:  # its client has left already
        connection.close()
