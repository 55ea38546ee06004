"""Address sets against Python's own networks."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed
from tailbox.policy.address_set import AddressSet, parse_ranges

networks = st.builds(
    lambda number, length: IPv4Network((number << (32 - length) & 0xFFFFFFFF, length)),
    st.integers(0, 2**12),
    st.integers(20, 32),
)


@given(members=st.lists(networks, max_size=8), number=st.integers(0, 2**14))
def test_membership_is_that_of_the_networks(members: list[IPv4Network], number: int) -> None:
    address = IPv4Address(number)
    assert (address.packed in AddressSet.of_networks(members)) == any(address in network for network in members)


@given(members=st.lists(networks, max_size=8))
def test_ranges_are_sorted_disjoint_and_apart(members: list[IPv4Network]) -> None:
    ranges = AddressSet.of_networks(members).ranges
    for (_, last), (first, _) in pairwise(ranges):
        assert int.from_bytes(first, "big") > int.from_bytes(last, "big") + 1


def test_families_do_not_mix() -> None:
    found = AddressSet.of_networks([IPv4Network("0.0.0.0/0")])
    assert IPv6Address("::").packed not in found
    assert IPv4Address("9.9.9.9").packed in found


def test_equality_ignores_how_a_set_was_written() -> None:
    halves = AddressSet.of_networks([IPv4Network("10.0.0.0/25"), IPv4Network("10.0.0.128/25")])
    assert halves == AddressSet.of_networks([IPv4Network("10.0.0.0/24")])
    assert hash(halves) == hash(AddressSet.of_networks([IPv4Network("10.0.0.0/24")]))
    assert not AddressSet()


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("*", "1.2.3.4"),
        ("*", "2001:db8::1"),
        ("100.64.0.1", "100.64.0.1"),
        ("100.64.0.0/24", "100.64.0.255"),
        ("100.64.0.1-100.64.0.9", "100.64.0.5"),
        ("fd7a::1-fd7a::9", "fd7a::9"),
    ],
)
def test_texts_are_read(text: str, inside: str) -> None:
    packed = (IPv6Address if ":" in inside else IPv4Address)(inside).packed
    assert packed in AddressSet(parse_ranges(text))


@pytest.mark.parametrize("text", ["", "10.0.0.1/24", "9.9.9.9-1.1.1.1", "1.1.1.1-::1", "a-b", "host", "1.2.3"])
def test_wrong_texts_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_ranges(text)
