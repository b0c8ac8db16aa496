import pytest

from noisevote.service.connections.header_rules import fault_of
from noisevote.service.errors import InvalidHttpError, UnknownTransferCodingError

HOST = (b"host", b"a")


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.1", [HOST]),
        ("1.1", [(b"host", b"")]),
        ("1.0", []),
        ("1.0", [HOST]),
        ("1.1", [HOST, (b"transfer-encoding", b"chunked")]),
        ("1.1", [HOST, (b"transfer-encoding", b"Chunked"), (b"content-encoding", b"gzip")]),
    ],
)
def test_what_http_allows_has_no_fault(version: str, headers: list[tuple[bytes, bytes]]) -> None:
    """One Host, which may be empty; none only before HTTP/1.1; no transfer coding but chunked."""
    assert fault_of(version, headers) is None


@pytest.mark.parametrize(
    ("version", "headers", "said"),
    [("1.1", [], "there are 0"), ("1.1", [HOST, HOST], "there are 2"), ("1.0", [HOST, HOST], "there are 2")],
)
def test_one_host_is_asked_for(version: str, headers: list[tuple[bytes, bytes]], said: str) -> None:
    """Two could mean one server to a proxy and another to us; HTTP/1.1 asks for one."""
    fault = fault_of(version, headers)
    assert isinstance(fault, InvalidHttpError)
    assert str(fault) == f"host: HTTP/{version} asks for one such header; {said}"


@pytest.mark.parametrize(
    "values", [[b"gzip, chunked"], [b"gzip", b"chunked"], [b"chunked, chunked"], [b"identity"], [b"x" * 500]]
)
def test_other_transfer_codings_are_refused(values: list[bytes]) -> None:
    """What is not undone must not be taken for the body; the answer says what to send instead, shortly."""
    fault = fault_of("1.1", [HOST, *((b"transfer-encoding", value) for value in values)])
    assert isinstance(fault, UnknownTransferCodingError)
    assert (fault.status, fault.code) == (501, "unknown_transfer_coding")
    assert str(fault).startswith(f"transfer-encoding: '{b', '.join(values).decode()[:80]}' is not chunked")
