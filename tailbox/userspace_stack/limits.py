"""Bounds of one stack. Everything a peer can make us keep is in here."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class StackLimits:
    """Defaults follow gVisor's as Tailscale sets them, where it has a counterpart (wgengine/netstack/netstack.go)."""

    connections: int = 8192  # TCP connections in any state but TIME-WAIT
    half_open: int = 8192  # pending forwards and SYN-RECEIVED together; netstack.go maxInFlightConnectionAttempts
    half_open_per_source: int = 5461  # two thirds of the above, netstack.go per-client limit
    time_wait: int = 4096  # oldest dropped first
    udp_sockets: int = 4096
    udp_pending: int = 1024  # UDP flows offered to the forwarder and not yet answered
    udp_queue_datagrams: int = 512  # per socket; newest dropped
    udp_queue_bytes: int = 256 * KIB  # per socket
    initial_buffer_bytes: int = 64 * KIB  # each direction of a connection, allocated with the first byte
    receive_buffer_bytes: int = 65535 << 7  # just under 8 MiB: what window scale 7 can express
    send_buffer_bytes: int = 6 * MIB
    total_buffer_bytes: int = 128 * MIB  # all connections together: growth stops at 75 %, new flows at 90 %
    out_of_order_ranges: int = 1024  # holes plus one, per connection
    discard_after_close_bytes: int = MIB  # what a peer may still send to a closed socket before it gets a reset
    icmp_errors_per_s: float = 1000.0  # Linux icmp_msgs_per_sec
    icmp_errors_burst: int = 50  # Linux icmp_msgs_burst
