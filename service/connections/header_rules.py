"""What HTTP asks of a request's header before it may be taken, beyond what the parser looks at (RFC 9112)."""

from collections.abc import Iterable

from noisevote.service.errors import InvalidHttpError, ServiceError, UnknownTransferCodingError


def fault_of(version: str, headers: Iterable[tuple[bytes, bytes]]) -> ServiceError | None:
    """What is the matter with a request of that HTTP version, if anything.

    HTTP/1.1 asks for one Host, as a proxy and the server behind it must mean the same one (3.2), and a transfer
    coding that is not undone must not be taken for the body (6.1).

    Args:
        version: "1.1", for instance.
        headers: names in lower case, and values.
    """
    hosts, codings = 0, b""
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            codings += b", " * bool(codings) + value
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return InvalidHttpError(f"host: HTTP/{version} asks for one such header; there are {hosts}")
    if codings and codings.lower() != b"chunked":
        return UnknownTransferCodingError(codings)
    return None
