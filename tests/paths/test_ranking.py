"""Vectors: tailscale wgengine/magicsock magicsock_test.go TestBetterAddr."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.paths.ranking import MeasuredPath, is_better, points_of
from tailbox.wire.addresses import Endpoint, parse_ip

PUBLIC, OTHER_PUBLIC, IPV6, PRIVATE = "1.2.3.4:555", "5.6.7.8:999", "[2001::5]:123", "10.0.0.2:123"


def measured(endpoint: str, latency_ms: float, wire_mtu: int = 1360) -> MeasuredPath:
    return MeasuredPath(Endpoint.parse(endpoint), latency_ms / 1000, wire_mtu)


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        ((PUBLIC, 5), None, True),
        ((PUBLIC, 5), (OTHER_PUBLIC, 10), True),
        ((PUBLIC, 5), (PUBLIC, 10), False),
        ((PUBLIC, 5, 1500), (PUBLIC, 5, 0), True),
        ((PUBLIC, 5, 0), (PUBLIC, 5, 1500), False),
        ((IPV6, 100), (PUBLIC, 91), True),
        ((PUBLIC, 91), (IPV6, 100), False),
        ((IPV6, 100), (PUBLIC, 30), False),
        ((PUBLIC, 30), (IPV6, 100), True),
        ((PRIVATE, 100), (PUBLIC, 91), True),
        ((PUBLIC, 91), (PRIVATE, 100), False),
        ((PRIVATE, 100), (PUBLIC, 30), False),
        ((PUBLIC, 30), (PRIVATE, 100), True),
        ((PUBLIC, 100), (OTHER_PUBLIC, 101), False),
        ((PUBLIC, 100), (OTHER_PUBLIC, 103), True),
    ],
)
def test_paths_rank_as_upstream_ranks_them(
    a: tuple[str, float] | tuple[str, float, int], b: tuple[str, float] | tuple[str, float, int] | None, wanted: bool
) -> None:
    assert is_better(measured(*a), measured(*b) if b else None) is wanted


@pytest.mark.parametrize(
    ("ip", "points"),
    [
        ("127.0.0.1", 50),
        ("::1", 60),
        ("169.254.1.1", 30),
        ("fe80::1", 40),
        ("192.168.1.1", 20),
        ("172.31.0.1", 20),
        ("fd00::1", 30),
        ("100.64.0.1", 0),
        ("192.0.2.1", 0),
        ("2001:db8::1", 10),
    ],
)
def test_kinds_of_address_have_fixed_points(ip: str, points: int) -> None:
    assert points_of(parse_ip(ip)) == points


@given(a=st.floats(0, 10), b=st.floats(0, 10))
def test_two_paths_are_never_both_better(a: float, b: float) -> None:
    one, other = measured(PUBLIC, a), measured(OTHER_PUBLIC, b)
    assert not (is_better(one, other) and is_better(other, one))
