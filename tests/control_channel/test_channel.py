"""Both ends of the whole channel, back to back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailbox.control_channel.channel import ChannelEvent, ClientChannel, HandshakeDone, HandshakeFailed, ServerChannel
from tailbox.control_channel.handshake import Initiator, respond
from tailbox.control_channel.http2 import BodyEnded, BodyReceived, ConnectionFailed, Http2Event, RequestStarted
from tailbox.crypto.x25519 import machine_public
from tailbox.randomness import SeededRandom
from tailbox.wire.keys import ChallengePublicKey, MachinePrivateKey
from tailbox.wire.noise import ErrorMessage, Initiation

SERVER = MachinePrivateKey(b"\x11" * 32)
MACHINE = MachinePrivateKey(b"\x22" * 32)
CHALLENGE = ChallengePublicKey(b"\x77" * 32)


class Wire(Protocol):
    client: ClientChannel
    server: ServerChannel
    at_client: list[ChannelEvent]
    at_server: list[Http2Event]

    def exchange(self) -> None: ...


MakeWire = Callable[..., Wire]


def client_channel() -> tuple[ClientChannel, Initiation]:
    initiator = Initiator(MACHINE, machine_public(SERVER), version=145, random=SeededRandom(1))
    return ClientChannel(initiator), Initiation.decode(initiator.initiation)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 700), with_challenge=st.booleans())
def test_a_request_crosses_in_any_chunks(make_wire: MakeWire, size: int, with_challenge: bool) -> None:
    def chunks(data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    wire = make_wire(challenge=CHALLENGE if with_challenge else None, chunks=chunks)
    wire.client.http2.request("POST", "/machine/map", authority="control.example", body=b"x" * 5000)
    wire.exchange()
    assert [type(event) for event in wire.at_client] == [HandshakeDone]
    assert isinstance(wire.at_server[0], RequestStarted)
    assert b"".join(event.data for event in wire.at_server if isinstance(event, BodyReceived)) == b"x" * 5000
    assert wire.at_server[-1] == BodyEnded(1)
    assert wire.client.challenge == (CHALLENGE if with_challenge else None)
    assert wire.server.session.peer == machine_public(MACHINE)


def test_nothing_leaves_the_client_before_the_handshake_is_done() -> None:
    client, _ = client_channel()
    client.http2.request("GET", "/", authority="x")
    assert client.bytes_to_send() == b""


def test_a_refusal_is_told_in_the_servers_words() -> None:
    client, _ = client_channel()
    assert client.receive_bytes(ErrorMessage("go away").encode()) == [HandshakeFailed("go away", is_refusal=True)]
    assert client.receive_bytes(b"more") == []


def test_a_server_with_another_key_is_noticed() -> None:
    client, _ = client_channel()
    other = MachinePrivateKey(b"\x55" * 32)
    for_other = Initiator(MACHINE, machine_public(other), version=145, random=SeededRandom(2))
    response, _ = respond(other, Initiation.decode(for_other.initiation), random=SeededRandom(3))
    (event,) = client.receive_bytes(response.encode())
    assert isinstance(event, HandshakeFailed)
    assert not event.is_refusal
    assert client.session is None


@pytest.mark.parametrize("data", [b"\x01\x00\x30", b"\x02\x00\x31", b"\x03\xff\xff", b"HTTP/1.1 200 OK\r\n"])
def test_garbage_instead_of_a_response_ends_the_client(data: bytes) -> None:
    client, _ = client_channel()
    (event,) = client.receive_bytes(data)
    assert isinstance(event, HandshakeFailed)


@given(st.binary(min_size=3, max_size=200))
def test_random_bytes_after_the_handshake_end_the_server(data: bytes) -> None:
    _, initiation = client_channel()
    _, session = respond(SERVER, initiation, random=SeededRandom(2))
    server = ServerChannel(session)
    events = server.receive_bytes(data + bytes(5000))
    assert isinstance(events[-1], ConnectionFailed)
    assert server.receive_bytes(b"more") == []


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_at_the_client(data: bytes) -> None:
    client, _ = client_channel()
    client.receive_bytes(data)
    client.receive_bytes(data)


def test_what_came_before_a_bad_record_still_counts(wire: Wire) -> None:
    wire.client.http2.request("GET", "/key", authority="x")
    events = wire.server.receive_bytes(wire.client.bytes_to_send() + b"\x05\x00\x20" + bytes(32))
    assert [type(event) for event in events] == [RequestStarted, BodyEnded, ConnectionFailed]
