"""Merging of map messages, as tailscale control/controlclient/map.go does it; the rows of control reference §6.5."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from tailbox.node.core.netmap import Netmap, NetmapReducer
from tailbox.wire.control.json import convert
from tailbox.wire.control.map import MapResponse

NOW = 1_750_000_000.0


def key(number: int) -> str:
    return "nodekey:" + f"{number:064x}"


def peer(number: int, **members: Any) -> dict[str, Any]:
    base = {"ID": number, "Key": key(number), "Name": f"p{number}.example.net.", "Online": True, "HomeDERP": 1}
    return {**base, "Endpoints": ["192.0.2.1:1"], "DiscoKey": "discokey:" + f"{number:064x}", **members}


def message(**members: Any) -> MapResponse:
    return convert(MapResponse, members)


def merged(*messages: dict[str, Any]) -> Netmap:
    reducer = NetmapReducer()
    for members in ({"Node": peer(99), "Peers": [peer(1), peer(2)]}, *messages):
        assert reducer.apply(message(**members), now_unix_s=NOW) is None
    assert reducer.netmap is not None
    return reducer.netmap


def test_a_stream_that_does_not_begin_with_ourselves_is_of_no_use() -> None:
    assert NetmapReducer().apply(message(Peers=[peer(1)]), now_unix_s=NOW) == "initial MapResponse lacked node"


def test_keep_alives_change_nothing_whatever_is_in_them() -> None:
    assert merged({"KeepAlive": True, "PeersRemoved": [1], "Domain": "x"}) == merged()


def test_a_peer_list_is_complete_and_an_empty_one_is_nothing() -> None:
    assert set(merged({"Peers": [peer(3)], "PeersChanged": [peer(4)]}).peers) == {3}
    assert set(merged({"Peers": []}).peers) == {1, 2}
    assert set(merged({"PeersRemoved": [1, 2]}).peers) == set()


def test_changed_peers_are_added_or_replaced() -> None:
    found = merged({"PeersChanged": [peer(2, Name="other.example.net.", Online=None), peer(3)]}).peers
    assert set(found) == {1, 2, 3}
    assert found[2].online is None


def test_a_changed_peer_that_differs_little_has_the_blind_spots_of_a_patch() -> None:
    without = {name: value for name, value in peer(1).items() if name not in ("Endpoints", "Online")}
    found = merged({"PeersChanged": [{**without, "HomeDERP": 0, "Cap": 5}]}).peers[1]
    assert (found.home_derp, found.cap, found.online, found.endpoints) == (1, 5, True, ("192.0.2.1:1",))
    assert merged({"PeersChanged": [peer(1, Endpoints=[])]}).peers[1].endpoints == ()


def test_removed_and_changed_at_once_loses_the_peer() -> None:
    assert set(merged({"PeersRemoved": [1], "PeersChanged": [peer(1, HomeDERP=7)]}).peers) == {2}
    assert set(merged({"PeersRemoved": [1], "PeersChanged": [peer(1, Name="new.")]}).peers) == {1, 2}


def test_patches_come_last_and_ignore_strangers() -> None:
    patch = {"NodeID": 1, "Key": key(7), "DERPRegion": 3, "Online": False, "KeyExpiry": "0001-01-01T00:00:00Z"}
    found = merged({"OnlineChange": {"1": True}, "PeersChangedPatch": [patch, {"NodeID": 55, "Cap": 1}]}).peers
    assert (found[1].key.text, found[1].home_derp, found[1].online, found[1].key_expiry) == (key(7), 3, False, None)
    assert 55 not in found


def test_seen_and_online_changes() -> None:
    found = merged({"OnlineChange": {"1": False, "9": True}, "PeerSeenChange": {"1": True, "2": False}}).peers
    assert found[1].online is False
    assert found[1].last_seen is not None
    assert found[1].last_seen.unix_s == NOW
    assert found[2].last_seen is None


RULE = {"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 1, "Last": 1}}]}
OTHER = {"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 2, "Last": 2}}]}


@pytest.mark.parametrize(
    ("messages", "first_ports"),
    [
        ([], []),
        ([{"PacketFilter": [RULE]}], [1]),
        ([{"PacketFilter": [RULE]}, {"Domain": "x"}], [1]),
        ([{"PacketFilter": [RULE]}, {"PacketFilter": []}], []),
        ([{"PacketFilter": [RULE]}, {"PacketFilters": {"a": [OTHER]}}], [2, 1]),
        ([{"PacketFilter": [RULE]}, {"PacketFilters": {"base": None}}], []),
        ([{"PacketFilters": {"b": [RULE], "c": [RULE]}}, {"PacketFilters": {"*": None, "a": [OTHER]}}], [2]),
        ([{"PacketFilter": [RULE]}, {"PacketFilters": {}}], [1]),
    ],
)
def test_filters_come_in_named_parts(messages: list[dict[str, Any]], first_ports: list[int]) -> None:
    assert [rule.dst_ports[0].ports.first for rule in merged(*messages).rules] == first_ports


def test_a_derp_map_keeps_what_it_does_not_mention() -> None:
    first = {"DERPMap": {"Regions": {"1": {"RegionID": 1}}, "HomeParams": {"RegionScore": {"1": 0.5}}}}
    kept = merged(first, {"DERPMap": {"HomeParams": {}}}).derp_map
    assert isinstance(kept.regions, dict)
    assert set(kept.regions) == {1}
    assert kept.home_params is not None
    assert kept.home_params.region_score == {1: 0.5}
    assert merged(first, {"DERPMap": {"Regions": {}}}).derp_map.regions == {}
    reset = merged(first, {"DERPMap": {"HomeParams": {"RegionScore": {}}}}).derp_map.home_params
    assert reset is not None
    assert reset.region_score == {}
    assert merged().derp_map.regions is UNSET


def test_smaller_members() -> None:
    first = {"Domain": "one", "Health": ["bad"], "DNSConfig": {"Proxied": True}, "UserProfiles": [{"ID": 1}]}
    found = merged(first, {"UserProfiles": [{"ID": 2}], "Domain": ""})
    assert (found.domain, found.health, found.dns.proxied, set(found.users)) == ("one", ("bad",), True, {1, 2})
    cleared = merged(first, {"Health": [], "DNSConfig": {}})
    assert (cleared.health, cleared.dns.proxied) == ((), False)


def test_messages_for_people_come_and_go() -> None:
    first = {"DisplayMessages": {"a": {"Title": "A"}, "b": {"Title": "B"}}}
    assert set(merged(first, {"DisplayMessages": {"a": None}}).messages) == {"b"}
    assert set(merged(first, {"DisplayMessages": {"*": None, "c": {"Title": "C"}}}).messages) == {"c"}


def test_the_coordinators_clock_counts_when_it_is_trustworthy_and_far_off() -> None:
    assert merged({"ControlTime": "2030-01-01T00:00:00Z"}).clock_skew_s > 0
    assert merged({"ControlTime": "2020-01-01T00:00:00Z"}).clock_skew_s == 0
    assert merged({"ControlTime": "2025-06-15T15:06:50Z"}).clock_skew_s == 0


def test_keys_run_out_by_that_clock() -> None:
    netmap = merged({"PeersChangedPatch": [{"NodeID": 1, "KeyExpiry": "2029-01-01T00:00:00Z"}]})
    assert not netmap.is_expired(netmap.peers[1], now_unix_s=NOW)
    assert netmap.next_expiry_unix_s(now_unix_s=NOW) == 1_861_920_000.0
    later = merged(
        {"PeersChangedPatch": [{"NodeID": 1, "KeyExpiry": "2029-01-01T00:00:00Z"}]},
        {"ControlTime": "2030-01-01T00:00:00Z"},
    )
    assert later.is_expired(later.peers[1], now_unix_s=NOW)
    assert later.is_expired(convert(MapResponse, {"Node": peer(5, Expired=True)}).node or peer, now_unix_s=NOW)  # type: ignore[arg-type]


def test_the_suffix_is_the_self_name_without_its_first_label() -> None:
    assert merged().suffix == "example.net"


@given(
    changes=st.lists(
        st.one_of(
            st.builds(lambda n: {"PeersChanged": [peer(n)]}, st.integers(1, 4)),
            st.builds(lambda n: {"PeersRemoved": [n]}, st.integers(1, 4)),
            st.builds(
                lambda n, d: {"PeersChangedPatch": [{"NodeID": n, "DERPRegion": d}]},
                st.integers(1, 4),
                st.integers(0, 3),
            ),
        ),
        max_size=8,
    )
)
def test_any_sequence_merges_without_surprise(changes: list[dict[str, Any]]) -> None:
    netmap = merged(*changes)
    assert all(node.id == number for number, node in netmap.peers.items())
