"""What can go wrong between a client and a server. Messages are for people, and say what can be done."""


class ClientError(Exception):
    """A request was not answered."""


class InputError(ClientError):
    """What shall be sent cannot be read, or is nothing that a server takes."""


class UnreachableError(ClientError):
    """No server answers at the address, or not in time."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{url}: {why}")
        self.url = url


class AnswerError(ClientError):
    """What answered is no noisevote server, or one of another time."""


class RefusedError(ClientError):
    """The server's own refusal.

    Attributes:
        status: of HTTP.
        code: for programs, such as `invalid_value`.
        message: the server's own, which names key and value.
        retry_after_s: seconds after which asking again makes sense, where the server says so.
    """

    def __init__(self, status: int, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{message} (HTTP {status}, {code})" if status else f"{message} ({code})")
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


class BusyError(RefusedError):
    """The server has no room now (429), or is not ready (503), and asking again did not help within the bounds."""


class UnrepeatableError(ClientError):
    """An answer does not determine its votes: a deadline cut it, or it does not show its seed."""
