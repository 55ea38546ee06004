"""The stack as its owner sees it: UDP, ICMP, forwarding, loops, limits, and input from hell."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.userspace_stack.errors import (
    InvalidDestination,
    LimitReached,
    NoAddress,
    PayloadTooLarge,
    PortInUse,
    SocketClosed,
)
from tailbox.userspace_stack.events import DropReason, EchoReply, EchoRequested
from tailbox.userspace_stack.limits import StackLimits
from tailbox.userspace_stack.stack import PendingFlow, SocketError, Stack, State
from tailbox.wire.addresses import Endpoint, IPAddress
from tailbox.wire.icmp import DestinationUnreachable, Echo, PacketTooBig, Unreachable, decode_icmp, encode_icmp
from tailbox.wire.ip import IPHeader, Protocol, build_packet, transport_checksum
from tailbox.wire.tcp import TcpFlag, TcpSegment
from tailbox.wire.train import Train
from tailbox.wire.udp import UdpDatagram
from tests.userspace_stack.conftest import ADDRESSES, Impairment, make_stack, make_wire, open_pair

ELSEWHERE: dict[int, IPAddress] = {4: IPv4Address("192.0.2.7"), 6: IPv6Address("2001:db8::7")}


def feed(stack: Stack, packet: bytes, *, now: float = 1.0) -> list[bytes]:
    stack.receive(Train.of(packet), now=now)
    return [bytes(packet) for train in stack.collect(now=now).to_network for packet in train]


def udp(source: IPAddress, destination: IPAddress, payload: bytes = b"hello", port: int = 53) -> bytes:
    return build_packet(source, destination, Protocol.UDP, UdpDatagram(4000, port, payload).encode(source, destination))


def icmp_protocol(version: int) -> Protocol:
    return Protocol.ICMPV6 if version == 6 else Protocol.ICMP


@pytest.mark.parametrize("version", [4, 6])
def test_datagrams_go_both_ways(version: int) -> None:
    wire = make_wire(version)
    here, there = ADDRESSES[version]
    server, client = wire.right.bind_udp(53), wire.left.bind_udp()
    client.send_to(b"question", Endpoint(there, 53))
    wire.run(for_s=1)
    assert server.receive() == (b"question", Endpoint(here, client.port))
    server.send_to(b"answer", Endpoint(here, client.port))
    wire.run(for_s=1)
    assert client.receive() == (b"answer", Endpoint(there, 53))
    assert client.receive() is None
    assert client.port >= 16384


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_for_nobody_is_answered_and_the_sender_told(version: int) -> None:
    wire = make_wire(version)
    client = wire.left.bind_udp()
    client.send_to(b"anybody?", Endpoint(ADDRESSES[version][1], 9))
    wire.run(for_s=1)
    assert client.is_unreachable
    assert wire.right.drops[DropReason.NO_SOCKET] == 1


def test_errors_are_sent_at_a_limited_rate() -> None:
    stack = make_stack(ADDRESSES[4][0], 1)
    answers = [answer for _ in range(80) for answer in feed(stack, udp(ADDRESSES[4][1], ADDRESSES[4][0]))]
    assert len(answers) == 50
    assert stack.drops[DropReason.RATE_LIMITED] == 30


def test_a_full_queue_drops_and_counts() -> None:
    stack = make_stack(ADDRESSES[4][0], 1, limits=StackLimits(udp_queue_datagrams=2))
    socket = stack.bind_udp(53)
    for _ in range(3):
        feed(stack, udp(ADDRESSES[4][1], ADDRESSES[4][0]))
    assert socket.drops == stack.drops[DropReason.QUEUE_FULL] == 1


def test_wrong_calls_on_sockets_are_told() -> None:
    stack = make_stack(ADDRESSES[4][0], 1)
    socket = stack.bind_udp(53)
    with pytest.raises(PortInUse):
        stack.bind_udp(53)
    with pytest.raises(PayloadTooLarge):
        socket.send_to(bytes(1253), Endpoint(ADDRESSES[4][1], 1))
    with pytest.raises(NoAddress):
        socket.send_to(b"", Endpoint(ADDRESSES[6][1], 1))
    socket.close()
    with pytest.raises(SocketClosed):
        socket.send_to(b"", Endpoint(ADDRESSES[4][1], 1))
    stack.bind_udp(53)
    with pytest.raises(NoAddress):
        stack.connect_tcp(Endpoint(ADDRESSES[6][1], 1), now=0.0)
    for bad in ("0.0.0.0:80", "224.0.0.1:80", "255.255.255.255:80", "100.64.0.2:0"):
        with pytest.raises(InvalidDestination):
            stack.connect_tcp(Endpoint.parse(bad), now=0.0)
    stack.listen_tcp(80)
    with pytest.raises(PortInUse):
        stack.listen_tcp(80)


def test_connections_are_limited() -> None:
    stack = make_stack(ADDRESSES[4][0], 1, limits=StackLimits(connections=2))
    for _ in range(2):
        stack.connect_tcp(Endpoint(ADDRESSES[4][1], 80), now=0.0)
    with pytest.raises(LimitReached):
        stack.connect_tcp(Endpoint(ADDRESSES[4][1], 80), now=0.0)


@pytest.mark.parametrize("version", [4, 6])
def test_pings_are_answered_and_their_answers_reported(version: int) -> None:
    wire = make_wire(version)
    there = ADDRESSES[version][1]
    wire.left.send_echo(there, identifier=7, sequence=9, payload=b"data", now=wire.now)
    wire.run(for_s=1)
    assert wire.events == [EchoReply(there, 7, 9, b"data")]


@pytest.mark.parametrize("version", [4, 6])
def test_pings_of_forwarded_addresses_are_the_forwarders_business(version: int) -> None:
    here, peer = ADDRESSES[version]
    stack = make_stack(here, 1)
    echo = encode_icmp(Echo(False, 1, 2, b"x"), peer, ELSEWHERE[version])
    packet = build_packet(peer, ELSEWHERE[version], icmp_protocol(version), echo)
    assert feed(stack, packet) == []
    assert stack.drops[DropReason.NOT_OURS] == 1
    stack.set_forwarding(own_addresses=False, other_addresses=True)
    stack.receive(Train.of(packet), now=1.0)
    (request,) = stack.collect(now=1.0).events
    assert request == EchoRequested(peer, ELSEWHERE[version], 1, 2, b"x")
    assert isinstance(request, EchoRequested)
    stack.answer_echo(request, now=1.0)
    (train,) = stack.collect(now=1.0).to_network
    header = IPHeader.decode(train.data)
    assert (header.source, header.destination) == (ELSEWHERE[version], peer)
    reply = decode_icmp(bytes(train.data)[header.header_bytes :], header.source, header.destination)
    assert reply == Echo(True, 1, 2, b"x")


def test_a_forwarded_udp_flow_waits_for_the_word() -> None:
    here, peer = ADDRESSES[4]
    stack = make_stack(here, 1)
    stack.set_forwarding(own_addresses=True, other_addresses=True)
    stack.receive(Train.of(udp(peer, ELSEWHERE[4], b"one")), now=1.0)
    (flow,) = stack.collect(now=1.0).events
    assert isinstance(flow, PendingFlow)
    stack.receive(Train.of(udp(peer, ELSEWHERE[4], b"two")), now=1.0)
    assert stack.collect(now=1.0).events == ()
    socket = flow.accept(now=1.0)
    assert (socket.local, socket.remote) == (Endpoint(ELSEWHERE[4], 53), Endpoint(peer, 4000))
    assert [socket.receive(), socket.receive()] == [(b"one", flow.remote), (b"two", flow.remote)]
    feed(stack, udp(peer, ELSEWHERE[4], b"three"))
    assert socket.receive() == (b"three", flow.remote)
    socket.close()
    stack.receive(Train.of(udp(peer, ELSEWHERE[4])), now=1.0)
    (again,) = stack.collect(now=1.0).events
    assert isinstance(again, PendingFlow)
    again.refuse(now=1.0)
    (train,) = stack.collect(now=1.0).to_network
    assert train.data[9] == Protocol.ICMP


def test_a_forgotten_flow_expires() -> None:
    stack = make_stack(ADDRESSES[4][0], 1)
    stack.set_forwarding(own_addresses=True, other_addresses=False)
    stack.receive(Train.of(udp(ADDRESSES[4][1], ADDRESSES[4][0])), now=1.0)
    (flow,) = stack.collect(now=1.0).events
    assert isinstance(flow, PendingFlow)
    deadline = stack.next_deadline()
    assert deadline is not None
    stack.handle_deadline(now=deadline.at)
    assert not flow.is_open
    with pytest.raises(SocketClosed):
        flow.accept(now=deadline.at)


@pytest.mark.parametrize("source", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"])
def test_impossible_sources_are_dropped(source: str) -> None:
    stack = make_stack(ADDRESSES[4][0], 1)
    assert feed(stack, udp(IPv4Address(source), ADDRESSES[4][0])) == []
    segment = TcpSegment(1, 80, 0, flags=TcpFlag.SYN).encode(IPv4Address(source), ADDRESSES[4][0])
    assert feed(stack, build_packet(IPv4Address(source), ADDRESSES[4][0], Protocol.TCP, segment)) == []
    assert stack.drops[DropReason.BAD_SOURCE] == 2


def test_a_stack_can_talk_to_itself() -> None:
    stack = make_stack(ADDRESSES[4][0], 1)
    listener = stack.listen_tcp(80)
    client = stack.connect_tcp(Endpoint(ADDRESSES[4][0], 80), now=0.0)
    stack.collect(now=0.0)
    server = listener.accept()
    assert server is not None
    data, received = bytes(range(256)) * 2000, b""
    sent = 0
    for step in range(1000):
        sent += client.write(data[sent:])
        assert stack.collect(now=step * 0.001).to_network == ()
        stack.handle_deadline(now=step * 0.001)
        received += server.read(1 << 20)
    assert received == data
    stack.send_echo(ADDRESSES[4][0], identifier=1, sequence=1, payload=b"", now=2.0)
    assert stack.collect(now=2.0).events == (EchoReply(ADDRESSES[4][0], 1, 1, b""),)


@pytest.mark.parametrize("version", [4, 6])
def test_a_smaller_path_makes_smaller_segments(version: int) -> None:
    wire = make_wire(version, mtu=4000)
    client, server, _ = open_pair(wire, version=version)
    client.write(bytes(20_000))
    big = [bytes(p) for train in wire.left.collect(now=wire.now).to_network for p in train]
    router = ELSEWHERE[version]
    here = ADDRESSES[version][0]
    for mtu, expected in ((1300, 1300), (0, 1280 if version == 6 else 576)):
        error = encode_icmp(PacketTooBig(mtu, big[0]), router, here)
        wire.left.receive(Train.of(build_packet(router, here, icmp_protocol(version), error)), now=wire.now)
        assert client.segment_bytes == expected - (60 if version == 6 else 40)
    assert wire.run(lambda: server.readable_bytes == 20_000, for_s=10)


def test_errors_that_quote_nothing_outstanding_are_ignored() -> None:
    wire = make_wire(4)
    client, _, _ = open_pair(wire)
    router, (here, there) = ELSEWHERE[4], ADDRESSES[4]
    for sequence, port in ((client.snd_nxt + 5000, client.local.port), (client.snd_una, 1)):
        quoted = TcpSegment(port, 80, sequence % 2**32, flags=TcpFlag.ACK).encode(here, there)
        error = PacketTooBig(600, build_packet(here, there, Protocol.TCP, quoted))
        packet = build_packet(router, here, Protocol.ICMP, encode_icmp(error, router, here))
        wire.left.receive(Train.of(packet), now=wire.now)
    assert client.segment_bytes == 1240
    assert wire.left.drops[DropReason.ICMP_UNMATCHED] == 2


def test_an_unreachable_destination_ends_an_attempt_but_not_a_connection() -> None:
    stack = make_stack(ADDRESSES[4][0], 1)
    here, there = ADDRESSES[4]
    socket = stack.connect_tcp(Endpoint(there, 80), now=1.0)
    (train,) = stack.collect(now=1.0).to_network
    error = encode_icmp(DestinationUnreachable(Unreachable.HOST, bytes(train.data)), there, here)
    feed(stack, build_packet(there, here, Protocol.ICMP, error))
    assert socket.error is SocketError.UNREACHABLE
    wire = make_wire(4)
    client, _, _ = open_pair(wire)
    client.write(b"data")
    (train,) = wire.left.collect(now=wire.now).to_network
    error = encode_icmp(DestinationUnreachable(Unreachable.HOST, bytes(train.data)), there, here)
    wire.left.receive(Train.of(build_packet(there, here, Protocol.ICMP, error)), now=wire.now)
    assert client.state is State.ESTABLISHED


def test_the_receive_window_grows_for_fast_readers_and_not_for_slow_ones() -> None:
    for delay_s, grows in ((0.001, True), (5.0, False)):
        wire = make_wire(4, Impairment(delay_s=0.001, whole_trains=True))
        client, server, _ = open_pair(wire)
        for _ in range(40):
            if client.writable_bytes:
                client.write(bytes(1 << 16))
            wire.run(for_s=delay_s)
            server.read(1 << 20)
        assert (server.rcv_buffer.capacity > 1 << 16) is grows


def test_an_idle_connection_holds_no_buffers() -> None:
    wire = make_wire(4)
    open_pair(wire)
    assert wire.left.snapshot().buffer_bytes == 0
    assert wire.left.snapshot().connections[0].state is State.ESTABLISHED


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=120), max_size=20), st.integers(1, 60))
def test_random_bytes_never_raise(packets: list[bytes], stride: int) -> None:
    stack = make_stack(ADDRESSES[4][0], 1)
    for packet in packets:
        if packet:
            stack.receive(Train(packet, min(stride, len(packet))), now=1.0)
            stack.receive(Train.of(b"\x45" + packet), now=1.0)
            stack.receive(Train.of(b"\x60" + packet), now=1.0)
        stack.collect(now=1.0)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_segments_never_raise_or_corrupt_memory_bounds(data: st.DataObject) -> None:
    wire = make_wire(4)
    client, server, _ = open_pair(wire)
    here, there = ADDRESSES[4]
    near = st.integers(-70_000, 70_000)
    for _ in range(data.draw(st.integers(1, 12))):
        options = data.draw(st.binary(max_size=40))
        segment = TcpSegment(
            client.local.port,
            80,
            (client.snd_nxt + data.draw(near)) % 2**32,
            (server.snd_nxt + data.draw(near | st.just(0))) % 2**32,
            TcpFlag(data.draw(st.sampled_from([2, 4, 16, 17, 18, 20, 24, 25]) | st.integers(0, 255))),
            data.draw(st.integers(0, 65535)),
            payload=data.draw(st.binary(max_size=300)),
        ).encode(here, there)
        words = (len(options) // 4) * 4
        message = bytearray(segment[:20] + options[:words] + segment[20:])
        message[12] = (20 + words) // 4 << 4
        message[16:18] = b"\0\0"
        # By hand: the codec does not write such options.
        message[16:18] = transport_checksum(here, there, Protocol.TCP, bytes(message)).to_bytes(2, "big")
        wire.right.receive(Train.of(build_packet(here, there, Protocol.TCP, bytes(message))), now=wire.now)
        wire.now += data.draw(st.sampled_from([0.0, 0.01, 1.0]))
        wire.right.handle_deadline(now=wire.now)
        wire.right.collect(now=wire.now)
        if server.state is State.ESTABLISHED and data.draw(st.booleans()):
            server.write(b"x" * 2000)
            server.read(100)
    assert server.readable_bytes <= server.rcv_buffer.capacity
    wire.right.snapshot()
