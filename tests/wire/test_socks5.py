"""SOCKS5 messages: examples of RFC 1928, round trips, truncation, random bytes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed, Truncated, UnsupportedVersion, WireError
from tailbox.wire.socks5 import (
    Command,
    Credentials,
    Destination,
    Greeting,
    Method,
    Reply,
    ReplyCode,
    Request,
    UdpDatagram,
    credentials_verdict,
    method_selection,
)

names = st.from_regex(r"[a-z0-9-]{1,40}(\.[a-z0-9-]{1,20})?", fullmatch=True)
destinations = st.builds(
    Destination,
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), names),
    st.integers(0, 65535),
)
stream_messages = st.one_of(
    st.builds(Greeting, st.frozensets(st.integers(0, 255), max_size=20)),
    st.builds(Credentials, st.binary(max_size=255), st.binary(max_size=255)),
    st.builds(Request, st.integers(0, 255), destinations),
    st.builds(Reply, st.sampled_from(ReplyCode), destinations),
)


def test_a_request_as_curl_sends_it() -> None:
    # Recorded from curl 8.14 --proxy socks5h://… http://beta/
    data = bytes.fromhex("05010003") + b"\x04beta" + bytes.fromhex("0050")
    assert Request.decode(data) == (Request(Command.CONNECT, Destination("beta", 80)), len(data))


@given(message=stream_messages)
def test_messages_survive_the_round_trip(message: Greeting | Credentials | Request | Reply) -> None:
    data = message.encode()
    assert type(message).decode(data) == (message, len(data))


@given(message=stream_messages)
def test_every_cut_waits_for_more(message: Greeting | Credentials | Request | Reply) -> None:
    data = message.encode()
    for length in range(len(data)):
        assert type(message).decode(data[:length]) is None


@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused_or_read(data: bytes) -> None:
    for kind in (Greeting, Credentials, Request, Reply):
        try:
            kind.decode(data)
        except WireError:
            continue


@given(destination=destinations, payload=st.binary(max_size=100))
def test_datagrams_survive_the_round_trip(destination: Destination, payload: bytes) -> None:
    datagram = UdpDatagram(destination, payload)
    assert UdpDatagram.decode(datagram.encode()) == datagram


def test_datagrams_cut_short_are_refused() -> None:
    data = UdpDatagram(Destination(IPv6Address("fd7a:115c:a1e0::1"), 53), b"").encode()
    for length in range(len(data)):
        with pytest.raises(Truncated):
            UdpDatagram.decode(data[:length])


def test_fragments_are_refused() -> None:
    with pytest.raises(Malformed):
        UdpDatagram.decode(b"\0\0\x01" + Destination(IPv4Address("1.2.3.4"), 5).encode())


def test_other_versions_are_refused() -> None:
    with pytest.raises(UnsupportedVersion):
        Greeting.decode(b"\x04\x01")
    with pytest.raises(UnsupportedVersion):
        Credentials.decode(b"\x05\x01a\x01b")


@pytest.mark.parametrize("name", [b"", b"a b", b"a\nb", b"\xff\xfe"])
def test_names_that_are_no_names_are_refused(name: bytes) -> None:
    with pytest.raises(Malformed):
        Request.decode(b"\x05\x01\x00\x03" + bytes((len(name),)) + name + b"\0\x50")


def test_a_password_does_not_show() -> None:
    assert "secret" not in repr(Credentials(b"user", b"secret"))


def test_answers_are_two_bytes() -> None:
    assert method_selection(Method.NONE_ACCEPTABLE) == b"\x05\xff"
    assert credentials_verdict(welcome=True) == b"\x01\x00"
    assert credentials_verdict(welcome=False) == b"\x01\x01"
