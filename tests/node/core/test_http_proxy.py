"""Heads of proxy requests: what is dialled, what is passed on, what is refused."""

from __future__ import annotations

import base64
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed
from tailbox.node.core.http_proxy import MAX_HEAD_BYTES, find_head_end, parse_request, refusal
from tailbox.node.core.socks5 import ProxyLogin
from tailbox.wire.socks5 import Destination


def head(*lines: str) -> bytes:
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("target", "destination"),
    [
        ("beta:443", Destination("beta", 443)),
        ("100.64.0.2:22", Destination(ip_address("100.64.0.2"), 22)),
        ("[fd7a::2]:22", Destination(ip_address("fd7a::2"), 22)),
    ],
)
def test_connect(target: str, destination: Destination) -> None:
    request = parse_request(head(f"CONNECT {target} HTTP/1.1", f"Host: {target}"))
    assert request.is_connect
    assert request.destination == destination


def test_an_absolute_request_is_rewritten() -> None:
    request = parse_request(
        head("GET http://beta/a/b?c=d HTTP/1.1", "Host: elsewhere", "Proxy-Connection: keep-alive", "X-Y: z")
    )
    assert request.destination == Destination("beta", 80)
    assert request.head == head("GET /a/b?c=d HTTP/1.1", "host: beta", "x-y: z", "connection: close")
    assert request.body_bytes == 0


def test_bodies_have_their_length() -> None:
    assert parse_request(head("POST http://beta:8080/ HTTP/1.1", "Content-Length: 12")).body_bytes == 12
    assert parse_request(head("POST http://beta/ HTTP/1.1", "Transfer-Encoding: chunked")).body_bytes is None
    assert parse_request(head("GET http://beta?q HTTP/1.1")).head.startswith(b"GET /?q HTTP/1.1\r\n")


def test_upgrades_are_passed_on() -> None:
    request = parse_request(head("GET http://beta/ws HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"))
    assert b"upgrade: websocket\r\n" in request.head
    assert request.head.endswith(b"connection: upgrade\r\n\r\n")
    assert request.body_bytes is None


@pytest.mark.parametrize(
    "request_head",
    [
        head("GET / HTTP/1.1"),
        head("GET https://beta/ HTTP/1.1"),
        head("CONNECT beta HTTP/1.1"),
        head("CONNECT user@beta:1 HTTP/1.1"),
        head("CONNECT beta:70000 HTTP/1.1"),
        head("GET http:///x HTTP/1.1"),
        head("GET http://beta/ HTTP/2"),
        head("GET http://beta/"),
        head("POST http://beta/ HTTP/1.1", "Content-Length: 1", "Content-Length: 2"),
        head("POST http://beta/ HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"),
        head("POST http://beta/ HTTP/1.1", "Content-Length: -1"),
        head("GET http://beta/ HTTP/1.1", "no colon"),
        head("GET http://beta/ HTTP/1.1", " folded: line"),
        b"\r\n\r\n",
    ],
)
def test_other_requests_are_malformed(request_head: bytes) -> None:
    with pytest.raises(Malformed):
        parse_request(request_head)


def test_a_login_is_asked_for_and_not_passed_on() -> None:
    login = ProxyLogin(b"user", b"secret")
    good = base64.b64encode(b"user:secret").decode()
    request = parse_request(head("GET http://beta/ HTTP/1.1", f"Proxy-Authorization: Basic {good}"), login=login)
    assert b"authorization" not in request.head
    for line in (
        "X: y",
        "Proxy-Authorization: Basic !!",
        "Proxy-Authorization: Basic " + base64.b64encode(b"u:p").decode(),
    ):
        with pytest.raises(PermissionError):
            parse_request(head("GET http://beta/ HTTP/1.1", line), login=login)


def test_heads_end_or_are_too_long() -> None:
    assert find_head_end(b"GET / HTTP/1.1\r\n") == -1
    assert find_head_end(b"GET\r\n\r\nbody") == 7
    with pytest.raises(Malformed):
        find_head_end(bytes(MAX_HEAD_BYTES + 1))


def test_refusals_cannot_be_split_by_a_stranger() -> None:
    assert b"\r\nInjected" not in refusal(500, "Internal Server Error", "why\r\nInjected: yes")
    assert b"Proxy-Authenticate" in refusal(407, "Proxy Authentication Required")


@given(data=st.binary(max_size=200))
def test_nonsense_is_malformed_or_a_request(data: bytes) -> None:
    try:
        parse_request(data + b"\r\n\r\n")
    except Malformed:
        pass
