"""Where a trace may look into the data path: every layer of one packet, for notebooks and `tailbox debug`.

An engine without a tap pays one comparison with None a train.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from tailbox.wire.keys import NodePublicKey


class TapPoint(StrEnum):
    """The layers, from the application down."""

    APPLICATION_SENT = "application sent"
    APPLICATION_RECEIVED = "application received"
    PACKET_SENT = "IP packet sent"  # train of IP packets
    PACKET_RECEIVED = "IP packet received"
    FILTER = "filter verdict"  # data: the packet; detail: the verdict
    WIREGUARD_SENT = "WireGuard sent"
    WIREGUARD_RECEIVED = "WireGuard received"
    DISCO_SENT = "disco sent"  # the sealed datagram
    DISCO_RECEIVED = "disco received"
    DISCO_MESSAGE_SENT = "disco message sent"  # what that datagram seals
    DISCO_MESSAGE_RECEIVED = "disco message received"
    STUN_RECEIVED = "STUN received"
    UNDERLAY_DROPPED = "underlay dropped"


class PacketTap(Protocol):
    """Whoever wants to see packets. `data` is a view that is valid during the call only."""

    def record(
        self, point: str, peer: NodePublicKey | None, data: bytes | bytearray | memoryview, *, detail: str, now: float
    ) -> None: ...
