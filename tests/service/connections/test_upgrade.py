from noisevote.service.connections.upgrade import head_without_upgrade


def test_the_wish_is_left_out_and_nothing_else() -> None:
    """Other tokens of the connection header stay, and the order of headers."""
    headers = [
        (b"host", b"localhost"),
        (b"connection", b"Upgrade, close, HTTP2-Settings"),
        (b"upgrade", b"h2c"),
        (b"http2-settings", b"AAEA"),
        (b"content-length", b"2"),
    ]
    assert head_without_upgrade(b"POST", b"/a?b", "1.1", headers) == (
        b"POST /a?b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 2\r\n\r\n"
    )
    assert b"connection" not in head_without_upgrade(b"GET", b"/", "1.1", [(b"connection", b"upgrade")])
