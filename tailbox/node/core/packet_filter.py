"""The stateful packet filter: what may come in, given the rules and what we sent.

TCP is judged on its SYN; UDP and SCTP answers pass by the flow table; ICMP errors and echo replies always pass. Source:
tailscale wgengine/filter/filter.go.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv6Network

from tailbox.node.core.flow_table import FlowTable
from tailbox.node.core.packet_head import PacketHead
from tailbox.policy.address_set import AddressSet
from tailbox.policy.match import NOTHING_ALLOWED, CompiledFilter
from tailbox.wire.ip import Protocol

METADATA_IPV4 = bytes((169, 254, 169, 254))  # clouds' metadata service: the one link-local address that may pass
_IPV6_LINK_LOCAL = int.from_bytes(IPv6Network("fe80::/10").network_address.packed[:2], "big")
_ICMP_ANSWERS = frozenset({0, 3, 11, 12})  # echo reply, unreachable, time exceeded, parameter problem
_ICMPV6_ANSWERS = frozenset({1, 2, 3, 4, 129})  # unreachable, too big, time exceeded, parameter problem, echo reply


class Verdict(StrEnum):
    """The filter's word on a packet. The value is the metric's label."""

    ACCEPT = "accept"
    UNKNOWN = "unknown_protocol"  # or too short, or contradicting itself
    BAD_SOURCE = "bad_source"  # not an address of the peer that sent it
    NOT_LOCAL = "not_local"  # for an address that is not served here
    MULTICAST = "multicast"
    LINK_LOCAL = "link_local_unicast"
    ACL = "acl"  # no rule allows it
    SHIELDS = "shields_up"
    NO_PEER = "no_peer"  # outbound: nobody carries this destination


class PacketFilter:
    """One node's filter. The flow table outlives changes of the rules."""

    def __init__(self) -> None:
        self._rules = NOTHING_ALLOWED
        self._local = AddressSet()
        self._shields_up = False
        self._flows = FlowTable()

    def set_rules(self, rules: CompiledFilter, *, local: AddressSet, shields_up: bool = False) -> None:
        """`local` is what may be a destination here: own addresses and approved routes."""
        self._rules = NOTHING_ALLOWED if shields_up else rules
        self._local = local
        self._shields_up = shields_up

    def note_outbound(self, head: PacketHead) -> None:
        """Let answers to this packet in. Cheap for TCP, which needs no entry."""
        if head.protocol == Protocol.UDP or head.protocol == Protocol.SCTP:
            flow = (head.protocol, head.destination, head.source, head.destination_port, head.source_port)
            self._flows.expect(flow)

    def judge_outbound(self, head: PacketHead) -> Verdict:
        """What must not leave whatever the rules."""
        return _judge_destination(head.destination)

    def judge_inbound(self, head: PacketHead, *, is_jailed: bool = False) -> Verdict:
        """Whether a packet may go to the stack. Its source has been checked. `is_jailed`: this peer opens nothing."""
        verdict = _judge_destination(head.destination)
        if verdict is not Verdict.ACCEPT or head.protocol == Protocol.FRAGMENT:
            return verdict
        if head.destination not in self._local:
            return Verdict.NOT_LOCAL
        if self._is_answer(head):
            return Verdict.ACCEPT
        if is_jailed or self._shields_up:
            return Verdict.SHIELDS
        return Verdict.ACCEPT if self._is_allowed(head) else Verdict.ACL

    def _is_answer(self, head: PacketHead) -> bool:
        protocol = head.protocol
        if protocol == Protocol.TCP:
            return not head.is_tcp_syn
        if protocol == Protocol.UDP or protocol == Protocol.SCTP:
            return self._flows.is_expected(
                (protocol, head.source, head.destination, head.source_port, head.destination_port)
            )
        if protocol == Protocol.ICMP:
            return head.icmp_type in _ICMP_ANSWERS
        if protocol == Protocol.ICMPV6:
            return head.icmp_type in _ICMPV6_ANSWERS
        return protocol == Protocol.TSMP

    def _is_allowed(self, head: PacketHead) -> bool:
        rules, protocol = self._rules, head.protocol
        if protocol in (Protocol.TCP, Protocol.UDP, Protocol.SCTP):
            return rules.allows(protocol, head.source, head.destination, head.destination_port)
        if protocol in (Protocol.ICMP, Protocol.ICMPV6):
            return rules.allows_address(head.source, head.destination)
        return rules.allows_protocol(protocol, head.source, head.destination)


def _judge_destination(destination: bytes) -> Verdict:
    if len(destination) == 4:
        if 224 <= destination[0] <= 239:
            return Verdict.MULTICAST
        if destination[0] == 169 and destination[1] == 254 and destination != METADATA_IPV4:
            return Verdict.LINK_LOCAL
        return Verdict.ACCEPT
    if destination[0] == 0xFF:
        return Verdict.MULTICAST
    if (destination[0] << 8 | destination[1]) & 0xFFC0 == _IPV6_LINK_LOCAL:
        return Verdict.LINK_LOCAL
    return Verdict.ACCEPT
