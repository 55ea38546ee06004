"""Routes against a linear scan."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from tailbox.node.core.overlay_routes import OverlayRoutes
from tailbox.wire.keys import NodePublicKey

PEERS = [NodePublicKey(bytes((number,)) * 32) for number in range(1, 5)]
networks = st.builds(
    lambda number, length: IPv4Network((number << (32 - length) & 0xFFFFFFFF, length)),
    st.integers(0, 2**10),
    st.integers(22, 32),
)


@given(
    allowed=st.dictionaries(st.sampled_from(PEERS), st.lists(networks, max_size=4), max_size=4),
    number=st.integers(0, 2**12),
)
def test_the_longest_prefix_wins(allowed: dict[NodePublicKey, list[IPv4Network]], number: int) -> None:
    address = IPv4Address(number)
    candidates = [(net.prefixlen, peer) for peer, nets in allowed.items() for net in nets if address in net]
    found = OverlayRoutes(allowed).peer_for(address.packed)
    if not candidates:
        assert found is None
    else:
        longest = max(length for length, _ in candidates)
        assert found in {peer for length, peer in candidates if length == longest}


@given(
    allowed=st.dictionaries(st.sampled_from(PEERS), st.lists(networks, max_size=4), max_size=4),
    number=st.integers(0, 2**12),
)
def test_a_source_is_good_within_the_peers_own_prefixes(
    allowed: dict[NodePublicKey, list[IPv4Network]], number: int
) -> None:
    address, routes = IPv4Address(number), OverlayRoutes(allowed)
    for peer in PEERS:
        assert routes.source_ok(peer, address.packed) == any(address in net for net in allowed.get(peer, []))


def test_both_families_have_routes() -> None:
    routes = OverlayRoutes({PEERS[0]: [ip_network("fd7a:115c:a1e0::1/128"), ip_network("fd00::/16")]})
    assert routes.peer_for(ip_address("fd7a:115c:a1e0::1").packed) == PEERS[0]
    assert routes.peer_for(ip_address("fd00::9").packed) == PEERS[0]
    assert routes.peer_for(ip_address("fe00::9").packed) is None
    assert routes.peer_for(ip_address("1.2.3.4").packed) is None
