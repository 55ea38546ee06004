"""What a stack tells its owner besides packets and readiness."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tailbox.wire.addresses import IPAddress


class DropReason(Enum):
    """Why a packet went no further; a counter each."""

    MALFORMED = "malformed"  # headers that contradict themselves or end early
    BAD_CHECKSUM = "bad checksum"
    FRAGMENT = "fragment"  # refused: nothing in a tailnet needs them
    BAD_SOURCE = "bad source"  # unspecified, multicast, broadcast, loopback
    NOT_OURS = "not ours"  # destination that we neither own nor forward for
    UNKNOWN_PROTOCOL = "unknown protocol"
    NO_SOCKET = "no socket"
    QUEUE_FULL = "queue full"
    BACKLOG_FULL = "backlog full"
    LIMIT = "limit"  # connections, half-open connections or memory of StackLimits
    UNACCEPTABLE = "unacceptable"  # TCP segment outside the window, or with an impossible acknowledgement
    ICMP_UNMATCHED = "ICMP unmatched"  # an error that quotes no flow of ours
    RATE_LIMITED = "rate limited"  # an ICMP error that we did not send


@dataclass(frozen=True, slots=True)
class EchoReply:
    """The answer to `Stack.send_echo`."""

    source: IPAddress
    identifier: int
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class EchoRequested:
    """Somebody pings an address that we forward for. `Stack.answer_echo` replies in its name."""

    source: IPAddress
    destination: IPAddress
    identifier: int
    sequence: int
    payload: bytes
