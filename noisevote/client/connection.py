"""Where a server is and how it is asked: what blocking and asynchronous clients share, without sending anything."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import httpx

from noisevote.client.calls import refusal
from noisevote.client.errors import AnswerError, BusyError, ClientError, RefusedError, UnreachableError
from noisevote.client.patience import BUSY, Patience, seconds_of

URL: Final = "http://127.0.0.1:8000"
URL_VARIABLE: Final = "NOISEVOTE_URL"
KEY_VARIABLE: Final = "NOISEVOTE_API_KEY"
TIMEOUT_S: Final = 60.0
CONNECT_S: Final = 5.0
WHERE: Final = f"start one with `noisevote serve`, or name another with --url, {URL_VARIABLE} or Client(url)"
# A connection that was kept open may have been closed by the server meanwhile, which is seen only once it is used.
LOST: Final = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


@dataclass(frozen=True)
class Connection:
    """A server's address, an API key if it needs one, and the bounds of waiting for it."""

    url: str
    key: str | None
    timeout_s: float
    patience: Patience

    @classmethod
    def of(cls, url: str | None, key: str | None, timeout_s: float, patience: Patience) -> "Connection":
        """What is given, else what the environment says, else this machine's port 8000.

        Raises:
            UnreachableError: the address is none of HTTP.
        """
        address = (url or os.environ.get(URL_VARIABLE) or URL).rstrip("/")
        if not address.lower().startswith(("http://", "https://")):
            raise UnreachableError(address, "no address that begins with http:// or https://")
        return cls(address, key or os.environ.get(KEY_VARIABLE) or None, timeout_s, patience)

    def arguments(self) -> dict[str, Any]:
        """Of httpx's clients."""
        headers = {"accept": "application/json", "user-agent": f"noisevote/{version('noisevote')}"}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        return {
            "base_url": self.url,
            "headers": headers,
            "timeout": httpx.Timeout(self.timeout_s, connect=min(CONNECT_S, self.timeout_s)),
            "verify": True if self.url.lower().startswith("https://") else _trusting_nobody(),
        }

    def failure(self, error: httpx.HTTPError | httpx.InvalidURL) -> ClientError:
        """Why there was no answer."""
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return UnreachableError(self.url, f"no server answers ({error or 'timed out'}); {WHERE}")
        if isinstance(error, httpx.TimeoutException):
            return UnreachableError(self.url, f"no answer within {self.timeout_s:g} s; allow more by timeout_s")
        return UnreachableError(self.url, f"the connection failed: {error or type(error).__name__}")

    def error(self, status: int, content: bytes, headers: Mapping[str, str]) -> ClientError:
        """What an answer says that is no success."""
        retry_after_s = seconds_of(headers.get("retry-after"), datetime.now(UTC))
        refused = refusal(status, content, retry_after_s)
        if refused is None and status in BUSY:  # a proxy's own
            refused = RefusedError(status, "busy", f"{self.url} is busy", retry_after_s)
        if refused is None:
            where = f" to {headers['location']}" if "location" in headers else ""
            return AnswerError(f"{self.url}: answers {status}{where}, which is no answer of a noisevote server")
        if status in BUSY:
            return BusyError(refused.status, refused.code, refused.message, refused.retry_after_s)
        return refused

    def pause_s(self, tried: int, error: ClientError, chance: float) -> float | None:
        """Seconds to wait before asking again after such an error; None: do not."""
        if not isinstance(error, BusyError):
            return None
        return self.patience.pause_s(tried, error.status, error.retry_after_s, chance)


def _trusting_nobody() -> ssl.SSLContext:
    """For a client that never speaks TLS: httpx would read the certificates of all authorities, which takes a while."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
