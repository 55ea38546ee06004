"""What sockets and relay links report to the event log."""

from __future__ import annotations

from dataclasses import dataclass

from tailbox.wire.addresses import Endpoint
from tailbox.wire.keys import NodePublicKey


@dataclass(frozen=True, slots=True)
class UdpBound:
    """A UDP socket is open."""

    ip_version: int
    port: int
    receive_buffer_bytes: int  # what the system granted


@dataclass(frozen=True, slots=True)
class UdpUnavailable:
    """No UDP socket for this family."""

    ip_version: int
    why: str


@dataclass(frozen=True, slots=True)
class SegmentationOffloadRefused:
    """The kernel does not cut trains into datagrams for this socket: they are sent one by one from now on."""

    ip_version: int
    why: str


@dataclass(frozen=True, slots=True)
class EndpointUnreachable:
    """The system refused to send to an address."""

    peer: NodePublicKey
    endpoint: Endpoint
    why: str


@dataclass(frozen=True, slots=True)
class RelayConnected:
    """Logged in at a relay of the region."""

    region_id: int
    host: str


@dataclass(frozen=True, slots=True)
class RelayDisconnected:
    """A link ended, or did not come about. `retry_in_s` is None if nobody needs it."""

    region_id: int
    why: str
    retry_in_s: float | None


@dataclass(frozen=True, slots=True)
class RelayHealth:
    """What a relay says of itself; empty: well again."""

    region_id: int
    problem: str


UnderlayEvent = (
    UdpBound
    | UdpUnavailable
    | SegmentationOffloadRefused
    | EndpointUnreachable
    | RelayConnected
    | RelayDisconnected
    | RelayHealth
)
