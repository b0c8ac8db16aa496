"""What can go wrong in a request. Each class carries its HTTP status and code; messages name key and value."""

from typing import Any, ClassVar, Final

# Longer ones are no header that anybody means.
SHOWN_HEADER_CHARACTERS: Final = 80


class ServiceError(Exception):
    """A request that is not answered. `code` is for programs, the message for people."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"

    def __reduce__(self) -> tuple[Any, ...]:
        """As what it is to another process, whatever its constructor takes."""
        return _rebuilt, (type(self), self.args, self.__dict__)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer beside its content type."""
        return {}


def _rebuilt(kind: type[ServiceError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> ServiceError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    vars(error).update(attributes)
    return error


class InvalidJsonError(ServiceError):
    """The body is not JSON, or not an object."""

    code = "invalid_json"


class InvalidHttpError(ServiceError):
    """What came is no HTTP request."""

    code = "invalid_http"


class UnknownTransferCodingError(ServiceError):
    """The request came in a transfer coding that is not undone here."""

    status = 501
    code = "unknown_transfer_coding"

    def __init__(self, codings: bytes) -> None:
        known = codings.decode("latin-1")[:SHOWN_HEADER_CHARACTERS]
        super().__init__(f"transfer-encoding: {known!r} is not chunked; compress with content-encoding")


class InvalidEncodingError(ServiceError):
    """The body is not what its content encoding says."""

    code = "invalid_encoding"


class InvalidValueError(ServiceError):
    """A key of the body that is unknown, missing, or has a value that cannot be used."""

    status = 422
    code = "invalid_value"

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


class UnknownModelError(ServiceError):
    """No model of that name is served."""

    status = 404
    code = "unknown_model"


class UnknownVersionError(ServiceError):
    """The model has no such version."""

    status = 404
    code = "unknown_version"


class UnknownVariantError(ServiceError):
    """The version has no such variant, or its file is refused."""

    status = 404
    code = "unknown_variant"


class RefusedModelError(ServiceError):
    """The model that was to be loaded is broken; what served before goes on serving."""

    status = 422
    code = "refused_model"


class MissingKeyError(ServiceError):
    """A key is needed, and none or an unknown one was sent."""

    status = 401
    code = "missing_key"

    @property
    def headers(self) -> dict[str, str]:
        """How to send one."""
        return {"WWW-Authenticate": 'Bearer realm="noisevote"'}


class UncertifiableError(ServiceError):
    """The model cannot certify: its noise is not additive at the input alone, or not drawn by operator version 1."""

    status = 422
    code = "not_certifiable"


class ForbiddenError(ServiceError):
    """Not for this caller, page or host, however often it asks."""

    status = 403
    code = "forbidden"


class PolicyError(ForbiddenError):
    """The model's policy does not allow it: a key, a value of it, or a route."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


class QuotaExceededError(ServiceError):
    """The key has had its share for now."""

    status = 429
    code = "quota_exceeded"

    def __init__(self, key: str, quota: str, problem: str, retry_after_s: int) -> None:
        super().__init__(f"key {key!r}: {quota}: {problem}")
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """When to come back, in whole seconds."""
        return {"Retry-After": str(self.retry_after_s)}


class BodyTooLargeError(ServiceError):
    """The body is over the limit; it was not read whole."""

    status = 413
    code = "body_too_large"

    def __init__(self, limit: int, announced: int | None = None, why: str = "NOISEVOTE_MAX_BODY_BYTES") -> None:
        size = f"more than {limit}" if announced is None else str(announced)
        super().__init__(f"body: {size} bytes; at most {limit} are read ({why})")
        self.announced = announced


class BodyTooComplexError(ServiceError):
    """The body has more values, keys or levels than are read; nothing of it was parsed."""

    status = 413
    code = "body_too_complex"


class HeaderTooLargeError(ServiceError):
    """The header is over the limit; it was not read whole."""

    status = 431
    code = "header_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"header: more than {limit} bytes; at most {limit} are read (NOISEVOTE_MAX_HEADER_BYTES)")


class TooSlowError(ServiceError):
    """The request did not arrive in time."""

    status = 408
    code = "too_slow"


class BodyUnreadError(ServiceError):
    """The process that reads long bodies has failed on this one."""

    status = 503
    code = "body_unread"

    @property
    def headers(self) -> dict[str, str]:
        """The next one is read by a new process."""
        return {"Retry-After": "1"}


class UnsupportedMediaTypeError(ServiceError):
    """The body is announced as what is not read here: by its type or its encoding."""

    status = 415
    code = "unsupported_media_type"

    def __init__(self, header: str, value: str | None) -> None:
        given = repr(value if value is None else value[:SHOWN_HEADER_CHARACTERS])
        super().__init__(f"{header}: {given}; send a body as application/json, unencoded or gzip")


class QueueFullError(ServiceError):
    """As many votes wait as the server accepts; nothing was queued."""

    status = 429
    code = "queue_full"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """When the queue will have room, in whole seconds."""
        return {"Retry-After": str(self.retry_after_s)}


class TooManyBytesError(ServiceError):
    """As many bytes of bodies arrive as the server holds."""

    status = 503
    code = "too_many_bytes"

    @property
    def headers(self) -> dict[str, str]:
        """Some of them will be read, or given up, in a moment."""
        return {"Retry-After": "1"}


class NotReadyError(ServiceError):
    """Models are still being loaded, or none could be."""

    status = 503
    code = "not_ready"

    @property
    def headers(self) -> dict[str, str]:
        """Loading takes seconds."""
        return {"Retry-After": "1"}


class DrainingError(ServiceError):
    """The server is about to end: it finishes what it has accepted, and accepts no more."""

    status = 503
    code = "draining"

    @property
    def headers(self) -> dict[str, str]:
        """Another replica may answer at once; this connection has no future."""
        return {"Retry-After": "1", "Connection": "close"}


class ClientLeftError(ServiceError):
    """The client closed its connection; nobody reads this answer."""

    code = "client_left"


class DeadlineExceededError(ServiceError):
    """The deadline passed before every input had a vote, so there is nothing to decide by."""

    status = 504
    code = "deadline_exceeded"


class TimedOutError(ServiceError):
    """No replica answered all parts of the request in time; those that were answered are dropped."""

    status = 504
    code = "timed_out"


class EngineError(ServiceError):
    """The engine failed on a batch that held rows of this request."""

    status = 500
    code = "engine_error"


class OverflowedError(ServiceError):
    """The network's outputs are not finite numbers under this much noise, so there is nothing to vote with."""

    status = 422
    code = "overflowed"
