"""Names by which a request is found again in logs: the client's own where it can be used, else one of ours."""

import itertools
import re
import secrets
from typing import Final

# What a header and a log line can carry without quoting, and no longer than one reads.
REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
# W3C Trace Context, version 00; versions to come begin alike and may go on.
TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_PROCESS: Final = secrets.token_hex(4).encode()
_numbers: Final = itertools.count(1)


def request_id(sent: bytes | None) -> bytes:
    """The client's name for its request, or a new one where it has none that can be used."""
    if sent is not None and REQUEST_ID.fullmatch(sent):
        return sent
    return b"%b-%x" % (_PROCESS, next(_numbers))


def traceparent(sent: bytes | None) -> bytes | None:
    """The client's place in a distributed trace; None where it has none that can be used."""
    return sent if sent is not None and TRACEPARENT.fullmatch(sent) else None
