"""Traces: recorded only when asked, bounded, grouped into steps, taken apart into layers."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from tailbox.node.core.tap import TapPoint
from tailbox.notebook.dissection import dissect, hex_dump
from tailbox.notebook.packet_trace import MAX_ENTRY_BYTES, PacketTrace
from tailbox.notebook.topology import Edge, NodeMark, draw
from tailbox.wire.addresses import Endpoint
from tailbox.wire.derp import RecvPacket, SendPacket
from tailbox.wire.disco import CallMeMaybe, Ping, Pong, UnknownMessage
from tailbox.wire.ip import Protocol, build_packet
from tailbox.wire.keys import NodePublicKey
from tailbox.wire.tcp import TcpFlag, TcpSegment
from tailbox.wire.wireguard import TransportData

ALPHA, BETA = IPv4Address("100.64.0.1"), IPv4Address("100.64.0.2")
REQUEST = b"GET / HTTP/1.1\r\n\r\n"
SEGMENT = TcpSegment(40000, 80, 7, 9, TcpFlag.ACK | TcpFlag.PSH, 512, payload=REQUEST)
PACKET = build_packet(ALPHA, BETA, Protocol.TCP, SEGMENT.encode(ALPHA, BETA))
SEALED = TransportData(0x1234, 5, bytes(48)).encode()


def test_an_ip_packet_is_taken_apart_to_the_application() -> None:
    layers = dissect(TapPoint.PACKET_SENT, PACKET + bytes(7), "")
    assert [layer.name for layer in layers] == ["IPv4", "TCP", "Application"]
    assert layers[0].summary == "100.64.0.1 → 100.64.0.2"
    assert layers[1].summary == "40000 → 80 [PSH ACK] 18 bytes"
    assert layers[2].summary == "GET / HTTP/1.1"


def test_a_sealed_packet_names_its_carrier() -> None:
    relayed = dissect(TapPoint.WIREGUARD_SENT, SEALED, "derp-900")
    direct = dissect(TapPoint.WIREGUARD_SENT, SEALED, "192.0.2.1:41641")
    assert [layer.name for layer in relayed] == ["DERP", "WireGuard"]
    assert [layer.name for layer in direct] == ["UDP (underlay)", "WireGuard"]
    assert relayed[1].summary == "data, counter 5"


def test_a_filter_verdict_comes_with_its_packet() -> None:
    layers = dissect(TapPoint.FILTER, PACKET, "accept: tcp 100.64.0.1 > 100.64.0.2")
    assert layers[0].fields[0] == ("verdict", "accept")
    assert [layer.name for layer in layers[1:]] == ["IPv4", "TCP", "Application"]


@given(point=st.sampled_from(list(TapPoint)), data=st.binary(max_size=120))
def test_anything_can_be_shown(point: TapPoint, data: bytes) -> None:
    assert dissect(point, data, "derp-1")


def test_long_dumps_say_what_they_leave_out() -> None:
    dump = hex_dump(bytes(600))
    assert dump.splitlines()[0].startswith("0000  00 00")
    assert dump.endswith("… 88 more bytes")


def recorded() -> PacketTrace:
    trace = PacketTrace()
    trace.is_recording = True
    alpha, beta = trace.tap_for("alpha"), trace.tap_for("beta")
    alpha.record(TapPoint.APPLICATION_SENT, None, REQUEST, detail="", now=1.0)
    alpha.record(TapPoint.PACKET_SENT, None, PACKET, detail="", now=1.001)
    alpha.record(TapPoint.WIREGUARD_SENT, None, SEALED, detail="derp-900", now=1.001)
    beta.record(TapPoint.WIREGUARD_RECEIVED, None, SEALED, detail="derp-900", now=1.002)
    beta.record(TapPoint.FILTER, None, PACKET, detail="accept: x", now=1.002)
    beta.record(TapPoint.PACKET_RECEIVED, None, PACKET, detail="", now=1.002)
    beta.record(TapPoint.APPLICATION_RECEIVED, None, REQUEST, detail="", now=1.003)
    return trace


def test_the_way_of_a_request_is_two_steps() -> None:
    steps = recorded().steps()
    assert [step.title for step in steps] == ["alpha sends: GET / HTTP/1.1", "beta receives: GET / HTTP/1.1"]
    assert [len(step.entries) for step in steps] == [3, 4]


def test_the_same_layer_again_starts_a_new_step() -> None:
    trace = recorded()
    trace.tap_for("beta").record(TapPoint.WIREGUARD_RECEIVED, None, SEALED, detail="derp-900", now=1.0031)
    assert len(trace.steps()) == 3


def test_nothing_is_kept_while_not_recording_and_little_of_long_trains() -> None:
    trace = PacketTrace(capacity=2)
    tap = trace.tap_for("alpha")
    tap.record(TapPoint.PACKET_SENT, None, PACKET, detail="", now=0.0)
    assert list(trace.entries) == []
    trace.is_recording = True
    for number in range(3):
        tap.record(TapPoint.PACKET_SENT, None, memoryview(bytes(60_000)), detail="", now=float(number))
    assert [entry.number for entry in trace.entries] == [2, 3]
    assert len(trace.entries[0].data) == MAX_ENTRY_BYTES
    trace.clear()
    assert list(trace.entries) == []


def test_the_picture_escapes_names_and_colours_edges() -> None:
    nodes = [NodeMark("a<b", "Running", "100.64.0.1"), NodeMark("c", "NeedsLogin")]
    picture = draw(
        nodes, [Edge("a<b", "c", "direct 127.0.0.1:1", 1.5), Edge("c", "gone", "relayed by x")], relay="home"
    )
    assert "a&lt;b" in picture
    assert "a<b" not in picture
    assert picture.count("<path") == 1
    assert "#2aa35b" in picture
    assert "1.5 ms" in picture


def test_relayed_edges_run_through_the_relay() -> None:
    nodes = [NodeMark(name, "Running") for name in ("a", "b", "c")]
    picture = draw(nodes, [Edge("a", "b", "relayed by home"), Edge("b", "c", "")], relay="relay")
    assert " Q " in picture
    assert ">relayed</text>" in picture
    assert "stroke-dasharray" in picture


def test_each_layer_shows_once_in_the_order_of_the_way() -> None:
    sent, received = recorded().steps()
    assert [layer.name for layer in sent.layers()] == ["Application", "TCP", "IPv4", "WireGuard", "DERP"]
    assert [layer.name for layer in received.layers()] == ["DERP", "WireGuard", "Filter", "IPv4", "TCP", "Application"]


def test_a_journey_joins_the_two_ends_of_the_same_sealed_bytes() -> None:
    trace = recorded()
    sent, received = trace.steps()
    assert trace.journey(sent).steps == trace.journey(received).steps == (sent, received)
    assert trace.follow("GET /").carrier == "derp-900"
    assert "<details" in trace.follow("GET /")._repr_html_()


def test_what_nodes_do_in_between_does_not_tear_a_step_apart() -> None:
    trace = PacketTrace()
    trace.is_recording = True
    alpha, beta = trace.tap_for("alpha"), trace.tap_for("beta")
    alpha.record(TapPoint.APPLICATION_SENT, None, REQUEST, detail="", now=1.0)
    beta.record(TapPoint.PACKET_RECEIVED, None, PACKET, detail="", now=1.001)
    alpha.record(TapPoint.PACKET_SENT, None, PACKET, detail="", now=1.002)
    assert [(step.node, len(step.entries)) for step in trace.steps()] == [("alpha", 2), ("beta", 1)]


def test_relayed_packets_show_the_frame_that_carries_them() -> None:
    peer = NodePublicKey(bytes(range(32)))
    [carrier, _] = dissect(TapPoint.WIREGUARD_SENT, SEALED, "derp-900", peer)
    assert carrier.data == SendPacket(peer, SEALED).encode()
    [carrier, _] = dissect(TapPoint.WIREGUARD_RECEIVED, SEALED, "derp-900", peer)
    assert carrier.data == RecvPacket(peer, SEALED).encode()


def test_disco_messages_are_told_in_words() -> None:
    seen = Endpoint.parse("192.0.2.1:41641")
    told = [
        dissect(TapPoint.DISCO_MESSAGE_SENT, message.encode(), "derp-900")[0].summary
        for message in (Ping(bytes(12)), Pong(bytes(12), seen), CallMeMaybe((seen,)), UnknownMessage(9, 0, b""))
    ]
    assert told == [
        "Ping: is this path open?",
        "Pong: your ping came from 192.0.2.1:41641",
        "CallMeMaybe: ping me at 1 addresses",
        "a type that is not read here",
    ]
