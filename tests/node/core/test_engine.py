"""Two engines back to back: connections, answers, refusals, names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbox.node.core.engine import TsmpPong
from tailbox.node.core.packet_filter import Verdict
from tailbox.paths.path import Direct
from tailbox.policy.match import NOTHING_ALLOWED
from tailbox.userspace_stack.events import EchoReply
from tailbox.userspace_stack.stack import TcpListener, TcpSocket
from tailbox.userspace_stack.tcp.states import State
from tailbox.wire.addresses import SERVICE_IPV4, Endpoint
from tailbox.wire.dns import RecordType, encode_query
from tailbox.wire.train import Train

if TYPE_CHECKING:
    from tests.node.core.conftest import Pair


def connected(pair: Pair, port: int = 80) -> tuple[TcpSocket, TcpSocket]:
    listener: TcpListener = pair.b.engine.stack.listen_tcp(port)
    here = pair.a.engine.stack.connect_tcp(Endpoint(pair.b.addresses[0], port), now=pair.now)
    pair.run()
    there = listener.accept()
    assert there is not None
    assert here.state is State.ESTABLISHED
    return here, there


def test_a_stream_crosses_byte_for_byte(pair: Pair) -> None:
    here, there = connected(pair)
    data = bytes(range(256)) * 4000
    sent, received = 0, b""
    while len(received) < len(data):
        sent += here.write(data[sent:])
        pair.run()
        received += there.read(1 << 20)
        pair.advance(0.001)
    assert received == data


def test_ipv6_works_alike(pair: Pair) -> None:
    listener = pair.b.engine.stack.listen_tcp(80)
    here = pair.a.engine.stack.connect_tcp(Endpoint(pair.b.addresses[1], 80), now=pair.now)
    pair.run()
    there = listener.accept()
    assert there is not None
    here.write(b"hello")
    pair.run()
    assert there.read(10) == b"hello"


def test_what_no_rule_allows_does_not_get_in(pair: Pair) -> None:
    pair.set_views(NOTHING_ALLOWED)
    pair.b.engine.stack.listen_tcp(80)
    here = pair.a.engine.stack.connect_tcp(Endpoint(pair.b.addresses[0], 80), now=pair.now)
    pair.run()
    assert here.state is State.SYN_SENT
    assert pair.b.engine.dataplane.inbound_drops[Verdict.ACL] == 1


def test_an_established_stream_survives_the_loss_of_its_rule(pair: Pair) -> None:
    here, there = connected(pair)
    pair.set_views(NOTHING_ALLOWED)
    here.write(b"still here")
    pair.run()
    assert there.read(100) == b"still here"


def test_answers_to_our_datagrams_come_in_without_a_rule(pair: Pair) -> None:
    pair.set_views(NOTHING_ALLOWED)
    client = pair.a.engine.stack.bind_udp()
    server = pair.b.engine.stack.bind_udp(9)
    client.send_to(b"unasked", Endpoint(pair.b.addresses[0], 9))
    pair.run()
    assert server.receive() is None
    server.send_to(b"to the same port", Endpoint(pair.a.addresses[0], client.local.port))
    pair.run()
    received = client.receive()
    assert received is not None
    assert received[0] == b"to the same port"


def test_echo_is_answered(pair: Pair) -> None:
    pair.a.engine.stack.send_echo(pair.b.addresses[0], identifier=7, sequence=1, payload=b"12345678", now=pair.now)
    pair.run()
    replies = [event for effects in pair.a.effects for event in effects.events if isinstance(event, EchoReply)]
    assert [reply.payload for reply in replies] == [b"12345678"]


def test_tsmp_ping_is_answered_even_without_rules(pair: Pair) -> None:
    pair.set_views(NOTHING_ALLOWED)
    pair.a.effects.append(pair.a.engine.tsmp_ping(pair.b.addresses[0], b"8 bytes!", now=pair.now))
    pair.run()
    pongs = [event for effects in pair.a.effects for event in effects.events if isinstance(event, TsmpPong)]
    assert pongs == [TsmpPong(pair.b.key, b"8 bytes!")]


def test_a_connection_to_ourselves_stays_here(pair: Pair) -> None:
    listener = pair.a.engine.stack.listen_tcp(80)
    here = pair.a.engine.stack.connect_tcp(Endpoint(pair.a.addresses[0], 80), now=pair.now)
    pair.run()
    there = listener.accept()
    assert there is not None
    here.write(b"me")
    pair.run()
    assert there.read(10) == b"me"
    assert pair.b.engine.stack.snapshot().connections == ()


def test_names_are_answered_at_the_service_address(pair: Pair) -> None:
    client = pair.a.engine.stack.bind_udp()
    client.send_to(encode_query("HOST2.example.net", RecordType.A, identifier=5), Endpoint(SERVICE_IPV4, 53))
    pair.run()
    received = client.receive()
    assert received is not None
    assert pair.b.addresses[0].packed in received[0]


def test_names_are_answered_over_tcp_too(pair: Pair) -> None:
    tcp = pair.a.engine.stack.connect_tcp(Endpoint(SERVICE_IPV4, 53), now=pair.now)
    pair.run()
    query = encode_query("host2.example.net", RecordType.A, identifier=5)
    tcp.write(len(query).to_bytes(2, "big") + query)
    pair.run()
    answer = tcp.read(1000)
    assert int.from_bytes(answer[:2], "big") == len(answer) - 2
    assert pair.b.addresses[0].packed in answer


def test_other_ports_of_the_service_address_are_closed(pair: Pair) -> None:
    pair.a.engine.stack.set_forwarding(own_addresses=True, other_addresses=False)
    tcp = pair.a.engine.stack.connect_tcp(Endpoint(SERVICE_IPV4, 80), now=pair.now)
    pair.run()
    assert tcp.error is not None
    assert not any(effects.pending for effects in pair.a.effects)


def test_a_syn_to_a_closed_port_is_offered_to_the_forwarder(pair: Pair) -> None:
    pair.b.engine.stack.set_forwarding(own_addresses=True, other_addresses=False)
    pair.a.engine.stack.connect_tcp(Endpoint(pair.b.addresses[0], 81), now=pair.now)
    pair.run()
    pending = [each for effects in pair.b.effects for each in effects.pending]
    assert [(each.local.port, each.remote.ip) for each in pending] == [(81, pair.a.addresses[0])]


def test_datagrams_that_are_nothing_are_counted(pair: Pair) -> None:
    source = Direct(Endpoint(pair.a.addresses[0], 1))
    for data in (b"\x00", b"\x05\x00\x00\x00", b"TS", bytes(100)):
        pair.a.engine.handle_train(Train.of(data), source, relay_peer=None, now=pair.now)
    assert pair.a.engine.runts == 4


def test_stun_messages_leave_by_their_own_lane(pair: Pair) -> None:
    message = b"\x01\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
    source = Direct(Endpoint(pair.a.addresses[0], 3478))
    assert pair.a.engine.handle_train(Train.of(message), source, relay_peer=None, now=pair.now).stun == (message,)
