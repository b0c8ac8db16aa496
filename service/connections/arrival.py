"""When bytes came to this machine, as Linux stamped them: that is before the event loop had time to read them."""

import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Final

# Of Linux's asm-generic/socket.h. A TCP socket with it tells the stamp with what is read (since Linux 4.14), and what a
# listening socket accepts inherits it.
_SO_TIMESTAMPNS: Final = 35
_STAMP: Final = struct.Struct("@qq")  # seconds since 1970, and nanoseconds
_ROOM: Final = socket.CMSG_SPACE(_STAMP.size)
_NOW: Final = getattr(socket, "MSG_DONTWAIT", 0) | socket.MSG_PEEK
# What seems to have waited longer was stamped before somebody set the clock.
LONGEST_S: Final = 60.0


def stamp_what_comes(listening: socket.socket) -> None:
    """Let all that comes by connections of this socket be stamped, where the system can do so."""
    if sys.platform == "linux":
        with suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def waited_s(connection: socket.socket) -> float:
    """Seconds for which the byte has waited that is to be read next; 0 where there is none, or nobody knows."""
    try:
        _, told, _, _ = connection.recvmsg(1, _ROOM, _NOW)
    except OSError:
        return 0.0
    for level, kind, content in told:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _STAMP.unpack(content)
            waited = (time.time_ns() - nanoseconds) / 1e9 - seconds
            return waited if 0.0 <= waited <= LONGEST_S else 0.0
    return 0.0
