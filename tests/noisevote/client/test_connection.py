"""How connections are made."""

import ssl
from typing import Any

import pytest

from noisevote.client import AsyncClient, Client


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "read"),
    [("http://lab:8000", 0), ("HTTP://lab", 0), ("https://lab", 1), ("HTTPS://lab", 1)],
)
def test_only_https_reads_certificates(
    kind: type[Client] | type[AsyncClient], url: str, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the authorities that are trusted, whose reading each command would wait for."""
    contexts = []
    create = ssl.create_default_context

    def recorded(*arguments: Any, **options: Any) -> ssl.SSLContext:
        contexts.append(create(*arguments, **options))
        return contexts[-1]

    monkeypatch.setattr(ssl, "create_default_context", recorded)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):  # each would have a connection pool of its own
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    kind(url)
    assert len(contexts) == read
    assert all(context.verify_mode is ssl.CERT_REQUIRED and context.get_ca_certs() for context in contexts)
