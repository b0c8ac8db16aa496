"""Whose pages may ask, and under which names: a page elsewhere must not drive a server on this machine.

Browsers send `Origin` with every request across origins that could change or read something, and `Sec-Fetch-Site` with
all; no page can forge either. A page whose own name is made to resolve to this machine (DNS rebinding) is of the same
origin, and is told by its name in `Host`.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from noisevote.service.errors import ForbiddenError
from noisevote.service.validation import shown

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True)
class OriginRule:
    """Which pages may ask.

    `allowed` are origins as browsers send them; a page of the server itself may ask too. A `link` on any page may be
    followed to a page that needs no key.
    """

    allowed: frozenset[str] = frozenset()

    def check(self, origin: str | None, site: str | None, host: str, *, link: bool = False) -> None:
        """Refuse what a page elsewhere asks.

        Args:
            origin: the header Origin.
            site: the header Sec-Fetch-Site.
            host: the header Host.
            link: a person follows a link to a page without secrets.

        Raises:
            ForbiddenError: its page is not allowed.
        """
        if origin is not None:
            of_this_server = host and origin.lower().partition("://")[2] == host.lower()
            if origin not in self.allowed and not of_this_server:
                raise ForbiddenError(f"origin: pages of {shown(origin)} may not ask here (NOISEVOTE_ALLOWED_ORIGINS)")
        elif site == "cross-site" and not link:
            raise ForbiddenError("sec-fetch-site: pages of other sites may not ask here")


@dataclass(frozen=True)
class HostRule:
    """Under which names the server may be asked; None: any. Ports do not matter."""

    allowed: frozenset[str] | None

    def check(self, host: str) -> None:
        """Refuse a name that is not the server's; none at all (HTTP/1.0) is no browser's.

        Raises:
            ForbiddenError: it is another's.
        """
        if self.allowed is not None and host and host_name(host) not in self.allowed:
            raise ForbiddenError(f"host: {shown(host)} is none of this server's names (NOISEVOTE_ALLOWED_HOSTS)")


@lru_cache(maxsize=64)  # clients of a server call it by few names
def host_name(host: str) -> str:
    """A Host header's name, without its port, in small letters."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()
