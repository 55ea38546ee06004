"""WireGuard messages are counted by path; what finds the path is not."""

from __future__ import annotations

from tailbox.node.traffic import PathKind, Tally, Traffic
from tailbox.paths.path import Direct, Relayed
from tailbox.wire.addresses import Endpoint
from tailbox.wire.train import Train

DIRECT4, DIRECT6 = Direct(Endpoint.parse("192.0.2.1:1")), Direct(Endpoint.parse("[2001:db8::1]:1"))


def test_trains_count_with_every_packet() -> None:
    traffic = Traffic()
    train = Train(b"\x04\0\0\0" + bytes(96) + b"\x04\0\0\0" + bytes(46), 100)
    for path in (DIRECT4, DIRECT6, Relayed(1)):
        traffic.note_inbound(train, path)
        traffic.note_outbound(train, path)
        traffic.note_outbound(Train.of(b"\x01" + bytes(147)), path)
    assert traffic.inbound == dict.fromkeys(PathKind, Tally(2, 150))
    assert traffic.outbound == dict.fromkeys(PathKind, Tally(3, 298))


def test_disco_and_stun_do_not_count() -> None:
    traffic = Traffic()
    for data in (
        "TS💬".encode() + bytes(80),
        b"\0\x01\0\0\x21\x12\xa4\x42",
        b"\x01\x01\0\x0c\x21\x12\xa4\x42",
        b"\xff",
    ):
        traffic.note_inbound(Train.of(data), DIRECT4)
        traffic.note_outbound(Train.of(data), DIRECT4)
    assert traffic.inbound == traffic.outbound == dict.fromkeys(PathKind, Tally())
