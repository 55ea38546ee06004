"""Header fields that are for the proxy alone go no further, those named by `Connection` included."""

from __future__ import annotations

from tailbox.node.core.http_proxy import parse_request


def test_fields_named_by_connection_stay_here_but_never_the_framing() -> None:
    head = (
        b"POST http://beta/x HTTP/1.1\r\nHost: beta\r\nConnection: close, X-Mine, Content-Length\r\nX-Mine: 1\r\n"
        b"Connection: x-other\r\nX-Other: 2\r\nKeep-Alive: 5\r\nX-Kept: 3\r\nContent-Length: 4\r\n\r\n"
    )
    request = parse_request(head)
    assert request.body_bytes == 4
    assert request.head == (
        b"POST /x HTTP/1.1\r\nhost: beta\r\nx-kept: 3\r\ncontent-length: 4\r\nconnection: close\r\n\r\n"
    )
