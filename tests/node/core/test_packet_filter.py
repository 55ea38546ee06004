"""The stateful filter, rule by rule of tailscale wgengine/filter/filter.go."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tailbox.node.core.flow_table import FlowTable
from tailbox.node.core.packet_filter import PacketFilter, Verdict
from tailbox.node.core.packet_head import PacketHead
from tailbox.policy.address_set import AddressSet
from tailbox.policy.match import compile_filter
from tailbox.wire.control.filter import FilterRule, NetPortRange, PortRange
from tailbox.wire.ip import Protocol

PEER, SELF = ip_address("100.64.0.2").packed, ip_address("100.64.0.1").packed
WEB_ONLY = compile_filter(
    [FilterRule(src_ips=("100.64.0.2",), dst_ports=(NetPortRange(ip="*", ports=PortRange(first=80, last=80)),))]
)


def head(protocol: int, *, destination: bytes = SELF, port: int = 80, flags: int = 2, icmp: int = 8) -> PacketHead:
    return PacketHead(protocol, PEER, destination, 5000, port, 20, flags, icmp)


@pytest.fixture
def web_filter() -> PacketFilter:
    found = PacketFilter()
    found.set_rules(WEB_ONLY, local=AddressSet([(SELF, SELF)]))
    return found


def test_before_any_rules_nothing_gets_in() -> None:
    assert PacketFilter().judge_inbound(head(Protocol.TCP)) is Verdict.NOT_LOCAL


def test_a_syn_needs_a_rule(web_filter: PacketFilter) -> None:
    assert web_filter.judge_inbound(head(Protocol.TCP)) is Verdict.ACCEPT
    assert web_filter.judge_inbound(head(Protocol.TCP, port=22)) is Verdict.ACL


@pytest.mark.parametrize("flags", [0x10, 0x12, 0x04, 0x11])
def test_other_segments_need_none(web_filter: PacketFilter, flags: int) -> None:
    assert web_filter.judge_inbound(head(Protocol.TCP, port=22, flags=flags)) is Verdict.ACCEPT


def test_datagrams_need_a_rule_or_a_question_of_ours(web_filter: PacketFilter) -> None:
    arriving = head(Protocol.UDP, port=53)
    assert web_filter.judge_inbound(arriving) is Verdict.ACL
    web_filter.note_outbound(PacketHead(Protocol.UDP, SELF, PEER, 53, 5000, 20))
    assert web_filter.judge_inbound(arriving) is Verdict.ACCEPT
    web_filter.set_rules(compile_filter([]), local=AddressSet([(SELF, SELF)]))
    assert web_filter.judge_inbound(arriving) is Verdict.ACCEPT


def test_echo_needs_any_rule_and_answers_none(web_filter: PacketFilter) -> None:
    assert web_filter.judge_inbound(head(Protocol.ICMP)) is Verdict.ACCEPT
    stranger = head(Protocol.ICMP)._replace(source=SELF)
    assert web_filter.judge_inbound(stranger) is Verdict.ACL
    assert web_filter.judge_inbound(stranger._replace(icmp_type=0)) is Verdict.ACCEPT
    assert web_filter.judge_inbound(stranger._replace(icmp_type=3)) is Verdict.ACCEPT


def test_tsmp_and_later_fragments_always_pass(web_filter: PacketFilter) -> None:
    assert web_filter.judge_inbound(head(Protocol.TSMP)) is Verdict.ACCEPT
    assert web_filter.judge_inbound(head(Protocol.FRAGMENT)) is Verdict.ACCEPT


def test_other_protocols_need_a_rule_that_names_them(web_filter: PacketFilter) -> None:
    assert web_filter.judge_inbound(head(47)) is Verdict.ACL


def test_only_what_is_served_here_is_a_destination(web_filter: PacketFilter) -> None:
    assert web_filter.judge_inbound(head(Protocol.TCP, destination=b"\x0a\0\0\x01")) is Verdict.NOT_LOCAL


def test_shields_up_lets_answers_in_only(web_filter: PacketFilter) -> None:
    web_filter.set_rules(WEB_ONLY, local=AddressSet([(SELF, SELF)]), shields_up=True)
    assert web_filter.judge_inbound(head(Protocol.TCP)) is Verdict.SHIELDS
    assert web_filter.judge_inbound(head(Protocol.TCP, flags=0x10)) is Verdict.ACCEPT


def test_a_jailed_peer_opens_nothing(web_filter: PacketFilter) -> None:
    assert web_filter.judge_inbound(head(Protocol.TCP), is_jailed=True) is Verdict.SHIELDS


@pytest.mark.parametrize(
    ("destination", "verdict"),
    [
        ("224.0.0.251", Verdict.MULTICAST),
        ("ff02::1", Verdict.MULTICAST),
        ("169.254.1.1", Verdict.LINK_LOCAL),
        ("fe80::1", Verdict.LINK_LOCAL),
        ("169.254.169.254", Verdict.ACCEPT),
        ("100.64.0.9", Verdict.ACCEPT),
        ("fd7a:115c:a1e0::9", Verdict.ACCEPT),
    ],
)
def test_some_destinations_never_leave(web_filter: PacketFilter, destination: str, verdict: Verdict) -> None:
    assert web_filter.judge_outbound(head(Protocol.UDP, destination=ip_address(destination).packed)) is verdict


def test_the_flow_table_forgets_what_was_used_longest_ago() -> None:
    table = FlowTable(capacity=2)
    one, two, three = ((17, PEER, SELF, port, 53) for port in (1, 2, 3))
    table.expect(one)
    table.expect(two)
    assert table.is_expected(one)
    table.expect(three)
    assert len(table) == 2
    assert [table.is_expected(key) for key in (one, two, three)] == [True, False, True]
    table.expect(one)
    assert len(table) == 2
