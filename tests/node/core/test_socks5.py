"""The SOCKS5 server machine: conversations, refusals, any chunking."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import LocalProtocolError
from tailbox.node.core.socks5 import (
    AssociateWanted,
    ConnectWanted,
    Failed,
    ProxyLogin,
    Send,
    SocksEvent,
    SocksServer,
    State,
)
from tailbox.wire.socks5 import Command, Credentials, Destination, Greeting, ReplyCode, Request

BETA = Destination("beta", 80)
PLAIN = Greeting(frozenset({0})).encode()
CONNECT = Request(Command.CONNECT, BETA).encode()
LOGIN = ProxyLogin(b"user", b"secret")


def test_a_connection_without_password() -> None:
    server = SocksServer()
    assert server.receive_bytes(PLAIN) == [Send(b"\x05\x00")]
    assert server.receive_bytes(CONNECT) == [ConnectWanted(BETA)]
    assert server.succeed(Destination(IPv4Address("100.64.0.1"), 9)) == bytes.fromhex("05000001644000010009")
    assert server.state is State.OPEN


def test_a_connection_with_password() -> None:
    server = SocksServer(login=LOGIN)
    assert server.receive_bytes(Greeting(frozenset({0, 2})).encode()) == [Send(b"\x05\x02")]
    assert server.receive_bytes(Credentials(b"user", b"secret").encode()) == [Send(b"\x01\x00")]
    assert server.receive_bytes(CONNECT) == [ConnectWanted(BETA)]


@pytest.mark.parametrize("credentials", [Credentials(b"user", b"wrong"), Credentials(b"other", b"secret")])
def test_wrong_credentials_end_the_conversation(credentials: Credentials) -> None:
    server = SocksServer(login=LOGIN)
    server.receive_bytes(Greeting(frozenset({2})).encode())
    events = server.receive_bytes(credentials.encode())
    assert events[0] == Send(b"\x01\x01")
    assert isinstance(events[1], Failed)
    assert server.receive_bytes(CONNECT) == []


def test_a_client_without_password_is_told_so() -> None:
    events = SocksServer(login=LOGIN).receive_bytes(PLAIN)
    assert events[0] == Send(b"\x05\xff")
    assert isinstance(events[1], Failed)


def test_early_bytes_belong_to_the_stream() -> None:
    server = SocksServer()
    server.receive_bytes(PLAIN + CONNECT + b"GET / HTTP/1.0\r\n")
    assert server.early_bytes == b"GET / HTTP/1.0\r\n"


def test_other_commands() -> None:
    server = SocksServer()
    request = Request(Command.UDP_ASSOCIATE, Destination(IPv4Address(0), 0)).encode()
    assert server.receive_bytes(PLAIN + request)[1:] == [AssociateWanted()]
    events = SocksServer().receive_bytes(PLAIN + Request(Command.BIND, BETA).encode())
    assert events[1] == Send(bytes((5, ReplyCode.COMMAND_NOT_SUPPORTED)) + bytes.fromhex("0001000000000000"))
    assert isinstance(events[2], Failed)


def test_an_unknown_address_type_is_answered() -> None:
    events = SocksServer().receive_bytes(PLAIN + b"\x05\x01\x00\x09" + bytes(8))
    assert isinstance(events[1], Send)
    assert events[1].data[1] == ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED


def test_replies_out_of_turn_are_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        SocksServer().fail()
    server = SocksServer()
    server.receive_bytes(PLAIN + CONNECT)
    server.fail(ReplyCode.HOST_UNREACHABLE)
    with pytest.raises(LocalProtocolError):
        server.succeed(BETA)


@given(cuts=st.lists(st.integers(1, 6)))
def test_chunk_boundaries_are_invisible(cuts: list[int]) -> None:
    data = Greeting(frozenset({2})).encode() + Credentials(b"user", b"secret").encode() + CONNECT
    whole, pieces = SocksServer(login=LOGIN), SocksServer(login=LOGIN)
    events: list[SocksEvent] = []
    rest = data
    for cut in [*cuts, len(data)]:
        events += pieces.receive_bytes(rest[:cut])
        rest = rest[cut:]
    assert events == whole.receive_bytes(data)


@given(data=st.binary(max_size=600))
def test_nonsense_never_raises(data: bytes) -> None:
    SocksServer().receive_bytes(data)
    SocksServer(login=LOGIN).receive_bytes(data)


def test_the_login_does_not_show() -> None:
    assert "secret" not in repr(LOGIN)
