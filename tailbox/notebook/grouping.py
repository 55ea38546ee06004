"""Which of a tap's records belong to one message: by their bytes where those show it, else by being next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tailbox.errors import WireError
from tailbox.node.core.tap import TapPoint
from tailbox.wire.ip import IPHeader
from tailbox.wire.ip import Protocol as IPProtocol
from tailbox.wire.tcp import TcpSegment

SENT = frozenset(
    {
        TapPoint.APPLICATION_SENT,
        TapPoint.PACKET_SENT,
        TapPoint.WIREGUARD_SENT,
        TapPoint.DISCO_SENT,
        TapPoint.DISCO_MESSAGE_SENT,
    }
)
SEALED = frozenset({TapPoint.WIREGUARD_SENT, TapPoint.WIREGUARD_RECEIVED, TapPoint.DISCO_SENT, TapPoint.DISCO_RECEIVED})
SAME_TURN_S = 0.005  # ours: layers without bytes to compare follow each other at once


class Record(Protocol):
    """What grouping looks at."""

    @property
    def point(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def at_s(self) -> float: ...


def belongs(record: Record, known: Sequence[Record]) -> bool:
    """Whether a record is a further layer of a message that consists of the known ones so far, all of one node."""
    last = known[-1]
    match record.point:
        case TapPoint.PACKET_SENT:
            return last.point == TapPoint.APPLICATION_SENT and _carries(record.data, last.data)
        case TapPoint.WIREGUARD_SENT:
            return last.point == TapPoint.PACKET_SENT and record.at_s - last.at_s < SAME_TURN_S
        case TapPoint.FILTER:
            return last.point == TapPoint.WIREGUARD_RECEIVED and record.at_s - last.at_s < SAME_TURN_S
        case TapPoint.PACKET_RECEIVED:
            return last.point == TapPoint.FILTER and record.data == last.data
        case TapPoint.APPLICATION_RECEIVED:
            return last.point == TapPoint.PACKET_RECEIVED and _carries(last.data, record.data)
        case TapPoint.DISCO_MESSAGE_SENT:
            return last.point == TapPoint.DISCO_SENT and record.at_s == last.at_s
        case TapPoint.DISCO_MESSAGE_RECEIVED:
            return last.point == TapPoint.DISCO_RECEIVED and record.at_s == last.at_s
    return False


def _carries(packet: bytes, application: bytes) -> bool:
    """Whether an IP packet carries bytes of what the application wrote or read."""
    payload = _tcp_payload(packet)
    return bool(payload) and payload in application


def _tcp_payload(packet: bytes) -> bytes:
    """Of the first packet of a train; b"" for anything else than TCP with data."""
    try:
        header = IPHeader.decode(packet)
        if header.protocol != IPProtocol.TCP:
            return b""
        segment = packet[header.header_bytes : header.header_bytes + header.payload_bytes]
        return bytes(TcpSegment.decode(segment, header.source, header.destination).payload)
    except WireError:
        return b""
