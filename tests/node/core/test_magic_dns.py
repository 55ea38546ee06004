"""Names of a tailnet. Behaviour: tailscale net/dns/resolver/tsdns.go."""

from __future__ import annotations

from ipaddress import ip_address

import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from tailbox.node.core.magic_dns import MagicDns, Zone
from tailbox.wire.dns import encode_query

V4, V6 = ip_address("100.64.0.2"), ip_address("fd7a:115c:a1e0::2")
ZONE = Zone({"beta.example.net": (V6, V4), "six.example.net": (ip_address("fd7a:115c:a1e0::6"),)}, "example.net")


@pytest.fixture
def names() -> MagicDns:
    found = MagicDns()
    found.set_zone(ZONE)
    return found


def ask(names: MagicDns, name: str, kind: str = "A") -> dns.message.Message:
    query = encode_query(name, dns.rdatatype.from_text(kind), identifier=1)  # type: ignore[arg-type]  # its number is what counts
    answer = names.answer(query)
    assert answer is not None
    return dns.message.from_wire(answer)


def texts(answer: dns.message.Message) -> list[str]:
    return [item.to_text() for rrset in answer.answer for item in rrset]


def test_addresses_are_answered(names: MagicDns) -> None:
    answer = ask(names, "BETA.example.net")
    assert texts(answer) == ["100.64.0.2"]
    assert answer.answer[0].ttl == 5


def test_ipv6_is_answered_where_there_is_no_ipv4(names: MagicDns) -> None:
    assert texts(ask(names, "six.example.net", "AAAA")) == ["fd7a:115c:a1e0::6"]
    assert texts(ask(names, "beta.example.net", "AAAA")) == []
    names.set_zone(Zone(ZONE.names, ZONE.suffix, answers_ipv6=True))
    assert texts(ask(names, "beta.example.net", "AAAA")) == ["fd7a:115c:a1e0::2"]


def test_any_is_the_first_address(names: MagicDns) -> None:
    assert texts(ask(names, "beta.example.net", "ANY")) == ["100.64.0.2"]


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("beta.example.net", "MX", dns.rcode.NOERROR),
        ("beta.example.net", "NS", dns.rcode.NOTIMP),
        ("gamma.example.net", "A", dns.rcode.NXDOMAIN),
        ("hidden.onion", "A", dns.rcode.NXDOMAIN),
        ("b._dns-sd._udp.0.64.100.in-addr.arpa", "PTR", dns.rcode.REFUSED),
        ("9.9.64.100.in-addr.arpa", "PTR", dns.rcode.NXDOMAIN),
        ("example.com", "A", dns.rcode.REFUSED),
    ],
)
def test_other_questions_get_a_code_that_says_why(names: MagicDns, name: str, kind: str, code: dns.rcode.Rcode) -> None:
    assert ask(names, name, kind).rcode() == code


def test_absence_comes_with_its_duration(names: MagicDns) -> None:
    assert ask(names, "gamma.example.net").authority[0].ttl == 10


def test_addresses_have_names(names: MagicDns) -> None:
    assert texts(ask(names, "2.0.64.100.in-addr.arpa", "PTR")) == ["beta.example.net."]
    assert texts(ask(names, "100.100.100.100.in-addr.arpa", "PTR")) == ["magicdns.localhost-tailscale-daemon."]
    assert names.name_of(V6) == "beta.example.net"
    assert names.name_of(ip_address("100.64.0.99")) == ""


@pytest.mark.parametrize("name", ["beta", "Beta", "beta.example.net", "beta.example.net."])
def test_dialling_knows_short_names_too(names: MagicDns, name: str) -> None:
    assert names.resolve(name) == (V4, V6)


@pytest.mark.parametrize("name", ["", ".", "gamma", "beta.example.com"])
def test_strangers_are_not_resolved(names: MagicDns, name: str) -> None:
    assert names.resolve(name) == ()


def test_without_a_tailnet_nothing_is_known() -> None:
    assert MagicDns().resolve("beta") == ()


def test_what_is_no_query_has_no_answer(names: MagicDns) -> None:
    assert names.answer(b"nonsense") is None
