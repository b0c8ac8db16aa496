"""Wishes for another protocol than HTTP/1.1, which a server may ignore."""

from collections.abc import Iterable
from typing import Final

WISHES: Final = frozenset({b"upgrade", b"http2-settings"})


def head_without_upgrade(method: bytes, url: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The request line and header of a request, as it would be without the wish for another protocol."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    for name, value in headers:
        if name == b"connection":
            kept = [token.strip() for token in value.split(b",") if token.strip().lower() not in WISHES]
            lines += [b"connection: " + b", ".join(kept)] if kept else []
        elif name not in WISHES:
            lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])
