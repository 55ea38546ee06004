"""Rules as a node reads them. Semantics: tailscale wgengine/filter/{filter,tailcfg}.go."""

from __future__ import annotations

from ipaddress import ip_address

from tailbox.policy.match import compile_filter
from tailbox.wire.control.filter import CapGrant, FilterRule, NetPortRange, PortRange

TCP, UDP, ICMP, GRE = 6, 17, 1, 47


def packed(text: str) -> bytes:
    return ip_address(text).packed


A, B, C = packed("100.64.0.1"), packed("100.64.0.2"), packed("100.64.0.3")


def ports(ip: str, first: int, last: int | None = None) -> NetPortRange:
    return NetPortRange(ip=ip, ports=PortRange(first=first, last=first if last is None else last))


def test_a_rule_opens_its_ports_to_its_sources_and_no_more() -> None:
    rules = compile_filter([FilterRule(src_ips=("100.64.0.1",), dst_ports=(ports("100.64.0.2", 80, 81),))])
    assert rules.allows(TCP, A, B, 80)
    assert rules.allows(UDP, A, B, 81)
    assert not rules.allows(TCP, A, B, 82)
    assert not rules.allows(TCP, C, B, 80)
    assert not rules.allows(TCP, A, C, 80)


def test_named_protocols_replace_the_usual_ones() -> None:
    rules = compile_filter([FilterRule(src_ips=("*",), dst_ports=(ports("*", 0, 65535),), ip_proto=(TCP, 300))])
    assert rules.allows(TCP, A, B, 1)
    assert not rules.allows(UDP, A, B, 1)
    assert compile_filter([FilterRule(src_ips=("*",), dst_ports=(ports("*", 0, 65535),), ip_proto=(300,))]).ports == ()


def test_icmp_follows_any_open_port() -> None:
    rules = compile_filter([FilterRule(src_ips=("100.64.0.1",), dst_ports=(ports("100.64.0.2", 80),), ip_proto=(TCP,))])
    assert rules.allows_address(A, B)
    assert not rules.allows_address(C, B)


def test_protocols_without_ports_need_every_port_and_their_name() -> None:
    def rules(last: int, *protocols: int) -> bool:
        rule = FilterRule(src_ips=("*",), dst_ports=(ports("*", 0, last),), ip_proto=protocols)
        return compile_filter([rule]).allows_protocol(GRE, A, B)

    assert rules(65535, GRE)
    assert not rules(65534, GRE)
    assert not rules(65535)


def test_a_bad_entry_costs_only_itself() -> None:
    rules = compile_filter([FilterRule(src_ips=("10.0.0.1/8", "100.64.0.1"), dst_ports=(ports("100.64.0.2", 80),))])
    assert rules.allows(TCP, A, B, 80)
    assert len(rules.problems) == 1


def test_the_old_bits_void_everything() -> None:
    good = FilterRule(src_ips=("*",), dst_ports=(ports("*", 0, 65535),))
    assert not compile_filter([good, FilterRule(src_ips=("*",), src_bits=(32,))]).ports
    old = NetPortRange(ip="*", bits=8, ports=PortRange(first=0, last=65535))
    assert not compile_filter([good, FilterRule(src_ips=("*",), dst_ports=(old,))]).allows(TCP, A, B, 1)


def test_sources_may_be_whoever_has_a_capability() -> None:
    rule = FilterRule(src_ips=("cap:example.com/cap/x",), dst_ports=(ports("*", 22),))
    rules = compile_filter([rule], holders=lambda name: [A] if name == "example.com/cap/x" else [])
    assert rules.allows(TCP, A, B, 22)
    assert not rules.allows(TCP, C, B, 22)
    assert not compile_filter([rule]).allows(TCP, A, B, 22)


def test_grants_pass_no_traffic_but_add_up() -> None:
    one = CapGrant(dsts=("100.64.0.2/32",), cap_map={"cap/x": ("a",)})
    two = CapGrant(dsts=("100.64.0.0/24",), cap_map={"cap/x": ("b",), "cap/y": None}, caps=("cap/z",))
    rules = compile_filter([FilterRule(src_ips=("100.64.0.1",), cap_grant=(one, two))])
    assert not rules.allows(TCP, A, B, 80)
    assert rules.capabilities(A, B) == {"cap/x": ["a", "b"], "cap/y": [], "cap/z": []}
    assert rules.capabilities(C, B) == {}


def test_impossible_port_ranges_are_reported() -> None:
    rules = compile_filter([FilterRule(src_ips=("*",), dst_ports=(ports("*", 9, 1),))])
    assert rules.ports == ()
    assert rules.problems
