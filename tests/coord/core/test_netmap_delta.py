"""The law of the map protocol: applying the difference of two maps to the one gives the other.

Two readers check it: a plain transcription of the client's rules, below, and the node's own reducer.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from tailbox.coord.core.netmap_delta import PATCHABLE, diff
from tailbox.node.core.netmap import NetmapReducer
from tailbox.wire.control.derp_map import DERPHomeParams, DERPMap, DERPRegion
from tailbox.wire.control.dns import DNSConfig
from tailbox.wire.control.filter import ALLOW_ALL
from tailbox.wire.control.json import decode, encode
from tailbox.wire.control.map import MapResponse, PeerChange
from tailbox.wire.control.node import Hostinfo, Node, UserProfile
from tailbox.wire.control.ssh import SSHPolicy
from tailbox.wire.control.timestamp import Timestamp
from tailbox.wire.keys import DiscoPublicKey, NodePublicKey

NOW = 1_700_000_000.0


def apply_patch(node: Node, patch: PeerChange) -> Node:
    """tailscale control/controlclient/map.go, (*mapSession).updateStateFromResponse, PeersChangedPatch."""
    members: dict[str, object] = {
        name: value
        for name, value in (
            ("home_derp", patch.derp_region or None),
            ("cap", patch.cap or None),
            ("cap_map", None if patch.cap_map is UNSET else patch.cap_map),
            ("endpoints", None if patch.endpoints is UNSET else patch.endpoints),
            ("key", patch.key),
            ("key_signature", patch.key_signature),
            ("disco_key", patch.disco_key),
            ("online", patch.online),
            ("last_seen", patch.last_seen),
        )
        if value is not None
    }
    if patch.key_expiry is not UNSET:
        members["key_expiry"] = None if patch.key_expiry.is_zero else patch.key_expiry
    return msgspec.structs.replace(node, **members)


def as_patch(old: Node, new: Node) -> PeerChange | None:
    """peerChangeDiff: a changed node that differs in patchable members only, blind spots included."""
    if msgspec.structs.replace(old, **{name: getattr(new, name) for name in PATCHABLE}) != new:
        return None
    return PeerChange(
        node_id=new.id,
        derp_region=new.home_derp,
        cap=new.cap,
        cap_map=new.cap_map,
        endpoints=new.endpoints,
        key=new.key,
        key_signature=new.key_signature,
        disco_key=new.disco_key,
        online=new.online if old.online is not None else None,
        last_seen=new.last_seen if old.last_seen is not None else None,
        key_expiry=new.key_expiry or Timestamp.zero(),
    )


def apply_peers(old: tuple[Node, ...], message: MapResponse) -> dict[int, Node]:
    peers = {peer.id: peer for peer in old}
    patches: list[PeerChange] = []
    if message.peers:
        return {peer.id: peer for peer in message.peers}
    whole: list[Node] = []
    for new in message.peers_changed:
        patch = as_patch(peers[new.id], new) if new.id in peers else None
        if patch is None:
            whole.append(new)
        else:
            patches.append(patch)
    for node_id in message.peers_removed:
        peers.pop(node_id, None)
    peers |= {peer.id: peer for peer in whole}
    for node_id, seen in message.peer_seen_change.items():
        assert not seen
        peers[node_id] = msgspec.structs.replace(peers[node_id], last_seen=None)
    for patch in (*patches, *message.peers_changed_patch):
        if patch.node_id in peers:
            peers[patch.node_id] = apply_patch(peers[patch.node_id], patch)
    return peers


def apply(old: MapResponse, message: MapResponse) -> MapResponse:
    """The whole map after a message."""
    parts = {**old.packet_filters, **message.packet_filters}
    return msgspec.structs.replace(
        old,
        node=message.node or old.node,
        derp_map=message.derp_map or old.derp_map,
        domain=message.domain or old.domain,
        dns_config=message.dns_config or old.dns_config,
        ssh_policy=message.ssh_policy or old.ssh_policy,
        health=old.health if message.health is UNSET else message.health,
        packet_filters={name: part for name, part in parts.items() if part is not None},
        user_profiles=tuple({profile.id: profile for profile in (*old.user_profiles, *message.user_profiles)}.values()),
        peers=tuple(node for _, node in sorted(apply_peers(old.peers, message).items())),
    )


def check_law(old: MapResponse, new: MapResponse) -> MapResponse | None:
    message = diff(old, new)
    if message is None:
        assert msgspec.structs.replace(old, user_profiles=()) == msgspec.structs.replace(new, user_profiles=())
        return None
    message = decode(MapResponse, encode(message))  # what arrives
    result = apply(old, message)
    assert set(new.user_profiles) <= set(result.user_profiles)  # profiles accumulate
    assert msgspec.structs.replace(result, user_profiles=()) == msgspec.structs.replace(new, user_profiles=())
    reducer = NetmapReducer()
    assert reducer.apply(old, now_unix_s=NOW) is None
    assert reducer.apply(message, now_unix_s=NOW) is None
    assert reducer.netmap is not None
    assert reducer.netmap.self_node == new.node
    assert dict(reducer.netmap.peers) == {peer.id: peer for peer in new.peers}
    assert reducer.netmap.dns == new.dns_config
    assert reducer.netmap.derp_map == new.derp_map
    assert reducer.netmap.rules == new.packet_filters.get("base", ())
    assert set(new.user_profiles) <= set(reducer.netmap.users.values())
    return message


keys = st.integers(1, 3).map(lambda number: NodePublicKey(bytes([number]) * 32))
times = st.none() | st.integers(1, 2).map(lambda day: Timestamp.from_unix(day * 86_400.0))
bits = {
    "name": st.sampled_from(["a.x.", "b.x."]),
    "user": st.integers(1, 2),
    "key": keys,
    "key_expiry": times,
    "key_signature": st.sampled_from([None, b"s", b"t"]),
    "disco_key": st.none() | st.just(DiscoPublicKey(b"d" * 32)),
    "endpoints": st.sampled_from([(), ("192.0.2.1:1",), ("192.0.2.1:1", "192.0.2.2:2"), UNSET]),
    "home_derp": st.integers(0, 2),
    "hostinfo": st.sampled_from([Hostinfo(os="linux"), Hostinfo(os="macOS")]),
    "cap": st.sampled_from([0, 113, 145]),
    "last_seen": times,
    "online": st.sampled_from([None, True, False]),
    "cap_map": st.sampled_from([{}, {"a": None}, {"a": (1,)}]),
    "allowed_ips": st.sampled_from([(), ("100.64.0.1/32",), UNSET]),
}


def nodes(node_id: int) -> st.SearchStrategy[Node]:
    return st.fixed_dictionaries(bits).map(
        lambda members: msgspec.structs.replace(
            Node(id=node_id, stable_id=f"n{node_id}", key=NodePublicKey(b"k" * 32)), **members
        )
    )


def edited(draw: st.DrawFn, node: Node) -> Node:
    """The node with a few members drawn anew: most differences are small ones."""
    names = draw(st.lists(st.sampled_from(sorted(bits)), max_size=2))
    return msgspec.structs.replace(node, **{name: draw(bits[name]) for name in names})


@st.composite
def maps(draw: st.DrawFn, former: MapResponse | None = None) -> MapResponse:
    peers: dict[int, Node] = {}
    known: Mapping[int, Node] = {} if former is None else {peer.id: peer for peer in former.peers}
    for node_id in sorted(draw(st.sets(st.integers(2, 6), max_size=5))):
        kept = known.get(node_id)
        peers[node_id] = draw(nodes(node_id)) if kept is None else edited(draw, kept)
    own = former.node if former is not None and former.node is not None else draw(nodes(1))
    return MapResponse(
        node=edited(draw, own),
        derp_map=DERPMap(regions={number: DERPRegion(region_id=number) for number in draw(st.sets(st.integers(1, 2)))}),
        domain=draw(st.sampled_from(["x", "y"])),
        dns_config=DNSConfig(proxied=draw(st.booleans())),
        packet_filters={"base": draw(st.sampled_from([(), ALLOW_ALL]))},
        user_profiles=(UserProfile(id=1, login_name=draw(st.sampled_from(["a", "b"]))),),
        peers=tuple(peers.values()),
        control_time=Timestamp.from_unix(NOW),
    )


@given(st.data())
def test_applying_the_difference_gives_the_new_map(data: st.DataObject) -> None:
    old = data.draw(maps())
    check_law(old, data.draw(maps(old)))


def peer(**members: object) -> Node:
    node = Node(
        id=2,
        stable_id="n2",
        key=NodePublicKey(b"k" * 32),
        disco_key=DiscoPublicKey(b"d" * 32),
        endpoints=("192.0.2.1:1",),
        home_derp=1,
        cap=113,
        online=True,
    )
    return msgspec.structs.replace(node, **members)


def whole(*peers: Node, **members: object) -> MapResponse:
    base = MapResponse(
        node=Node(id=1, key=NodePublicKey(b"s" * 32)),
        derp_map=DERPMap(regions={}),
        dns_config=DNSConfig(),
        packet_filters={"base": ALLOW_ALL},
        peers=peers,
    )
    return msgspec.structs.replace(base, **members)


def test_equal_maps_have_no_difference() -> None:
    assert diff(whole(peer()), whole(peer(), control_time=Timestamp.from_unix(NOW))) is None


def test_the_last_peer_goes_by_name_and_not_by_an_empty_list() -> None:
    assert check_law(whole(peer()), whole()) == MapResponse(peers_removed=(2,))


@pytest.mark.parametrize(
    ("members", "patch"),
    [
        ({"endpoints": ()}, PeerChange(node_id=2, endpoints=())),
        ({"home_derp": 5}, PeerChange(node_id=2, derp_region=5)),
        ({"cap_map": {"x": None}}, PeerChange(node_id=2, cap_map={"x": None})),
        ({"key": NodePublicKey(b"n" * 32)}, PeerChange(node_id=2, key=NodePublicKey(b"n" * 32))),
        ({"key_expiry": Timestamp(5)}, PeerChange(node_id=2, key_expiry=Timestamp(5))),
        (
            {"online": False, "last_seen": Timestamp(7)},
            PeerChange(node_id=2, online=False, last_seen=Timestamp(7)),
        ),
    ],
)
def test_small_changes_are_patches(members: Mapping[str, object], patch: PeerChange) -> None:
    assert check_law(whole(peer()), whole(peer(**members))) == MapResponse(peers_changed_patch=(patch,))


def test_coming_back_online_clears_last_seen_before_the_patch() -> None:
    message = check_law(whole(peer(online=False, last_seen=Timestamp(7))), whole(peer()))
    assert message == MapResponse(
        peer_seen_change={2: False}, peers_changed_patch=(PeerChange(node_id=2, online=True),)
    )


def test_a_key_that_no_longer_expires_is_patched_with_the_year_one() -> None:
    message = check_law(whole(peer(key_expiry=Timestamp(5))), whole(peer()))
    assert message == MapResponse(peers_changed_patch=(PeerChange(node_id=2, key_expiry=Timestamp.zero()),))


@pytest.mark.parametrize(
    "members", [{"home_derp": 0}, {"cap": 0}, {"disco_key": None}, {"online": None}, {"endpoints": UNSET}]
)
def test_what_no_patch_can_say_replaces_all_peers(members: Mapping[str, object]) -> None:
    new = whole(peer(**members))
    assert check_law(whole(peer()), new) == MapResponse(peers=new.peers)


def test_other_changes_send_the_whole_node() -> None:
    new = peer(name="b.x.", home_derp=0, online=None)
    assert check_law(whole(peer()), whole(new)) == MapResponse(peers_changed=(new,))


def test_absence_is_said_by_emptiness() -> None:
    old = whole(
        ssh_policy=SSHPolicy(),
        health=("bad",),
        packet_filters={"base": (), "x": ()},
        dns_config=DNSConfig(proxied=True),
    )
    message = diff(old, whole(packet_filters={"base": ()}, ssh_policy=None, dns_config=None))
    assert message == MapResponse(ssh_policy=SSHPolicy(), health=(), packet_filters={"x": None}, dns_config=DNSConfig())


def test_a_new_derp_map_keeps_nothing_of_the_old_one() -> None:
    old = whole(derp_map=DERPMap(regions={}, home_params=DERPHomeParams(region_score={1: 0.5})))
    message = diff(old, whole(derp_map=DERPMap()))
    assert message == MapResponse(derp_map=DERPMap(regions={}, home_params=DERPHomeParams(region_score={})))
