"""What changed for a viewer: `diff(old, new)`, with the law `apply(old, diff(old, new)) == new`.

`apply` is the client's merging (control reference §6.5, §6.6), blind spots included; `old` and `new` are whole maps.
The traps, and how they are avoided:

| Trap | Answer |
|---|---|
| `Peers: []` is ignored | PeersRemoved |
| Endpoints left out mean "unchanged" | always written, `[]` included |
| a peer that differs only in patchable members takes a patch's blind spots | such peers *are* sent as patches |
| a patch cannot say: no relay, capability version 0, no disco key, no signature, presence unknown | all peers anew |
| LastSeen cannot be patched away | PeerSeenChange false, which is applied before patches |
| a key expiry cannot be patched away | year 1 |
| an identifier both removed and changed is lost | cannot happen: a removed one is in no new map |
| absent members mean "unchanged" | empty DNSConfig, `rules: []`, `Health: []`, null parts |
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import UNSET

from tailbox.wire.control.derp_map import DERPHomeParams, DERPMap
from tailbox.wire.control.dns import DNSConfig
from tailbox.wire.control.map import MapResponse, PeerChange
from tailbox.wire.control.node import Node
from tailbox.wire.control.ssh import SSHPolicy
from tailbox.wire.control.timestamp import Timestamp

# What a patch can say; every other member makes clients replace the whole peer.
PATCHABLE = (
    "endpoints", "home_derp", "cap", "cap_map", "key", "key_signature", "disco_key", "online", "last_seen",
    "key_expiry",
)  # fmt: skip
# Members without "empty": they are sent when they change to something.
PLAIN_MEMBERS = ("domain", "collect_services", "debug", "tka_info", "control_dial_plan", "client_version")


class _Inexpressible(Exception):
    """A patch cannot say it, and a changed node that differs in nothing else would be taken for a patch."""


def diff(old: MapResponse, new: MapResponse) -> MapResponse | None:
    """The message that turns one whole map into another; None if they are equal but for the time."""
    members: dict[str, object] = _other_members(old, new)
    if old.peers is not new.peers:
        members |= _peer_members(old.peers, new.peers)
    if not members:
        return None
    return msgspec.structs.replace(MapResponse(control_time=new.control_time), **members)


def _peer_members(old: tuple[Node, ...], new: tuple[Node, ...]) -> dict[str, object]:
    before = {peer.id: peer for peer in old}
    changed: list[Node] = []
    patches: list[PeerChange] = []
    no_longer_seen: dict[int, bool] = {}
    try:
        for peer in new:
            known = before.pop(peer.id, None)
            if known is peer:
                continue
            if known is None or not _is_patchable(known, peer):
                changed.append(peer)
                continue
            patch = _patch(known, peer)
            if patch != PeerChange(node_id=peer.id):
                patches.append(patch)
            if known.last_seen is not None and peer.last_seen is None:
                no_longer_seen[peer.id] = False
    except _Inexpressible:
        return {"peers": new}
    members = {
        "peers_removed": tuple(before),
        "peers_changed": tuple(changed),
        "peers_changed_patch": tuple(patches),
        "peer_seen_change": no_longer_seen,
    }
    return {name: value for name, value in members.items() if value}


def _is_patchable(old: Node, new: Node) -> bool:
    """Whether nothing differs beyond what a patch can carry, as the client's patchifying sees it."""
    return msgspec.structs.replace(old, **{name: getattr(new, name) for name in PATCHABLE}) == new


def _patch(old: Node, new: Node) -> PeerChange:
    """Raises _Inexpressible."""
    members: dict[str, object] = {}
    if old.endpoints != new.endpoints:
        members["endpoints"] = _said(new.endpoints, UNSET)
    if old.home_derp != new.home_derp:
        members["derp_region"] = _said(new.home_derp, 0)
    if old.cap != new.cap:
        members["cap"] = _said(new.cap, 0)
    if old.cap_map != new.cap_map:
        members["cap_map"] = new.cap_map
    for name in ("key", "key_signature", "disco_key", "online"):
        if getattr(old, name) != getattr(new, name):
            members[name] = _said(getattr(new, name), None)
    if old.last_seen != new.last_seen and new.last_seen is not None:
        members["last_seen"] = new.last_seen
    if old.key_expiry != new.key_expiry:
        members["key_expiry"] = new.key_expiry or Timestamp.zero()
    return msgspec.structs.replace(PeerChange(node_id=new.id), **members)


def _said(value: object, unsayable: object) -> object:
    if value == unsayable:
        raise _Inexpressible
    return value


def _other_members(old: MapResponse, new: MapResponse) -> dict[str, object]:
    members: dict[str, object] = {
        name: getattr(new, name)
        for name in PLAIN_MEMBERS
        if getattr(new, name) != getattr(old, name) and getattr(new, name) not in (None, "")
    }
    if new.node is not None and new.node != old.node:
        members["node"] = new.node
    if new.derp_map is not None and old.derp_map is not new.derp_map and old.derp_map != new.derp_map:
        members["derp_map"] = _whole_derp_map(old.derp_map, new.derp_map)
    if new.dns_config != old.dns_config:
        members["dns_config"] = new.dns_config or DNSConfig()
    if new.ssh_policy != old.ssh_policy:
        members["ssh_policy"] = new.ssh_policy or SSHPolicy()
    if new.packet_filter is not UNSET and new.packet_filter != old.packet_filter:
        members["packet_filter"] = new.packet_filter
    if new.health != old.health:
        members["health"] = () if new.health is UNSET else new.health
    known = set(old.user_profiles)
    profiles = tuple(profile for profile in new.user_profiles if profile not in known)
    if profiles:
        members["user_profiles"] = profiles
    for name in ("packet_filters", "display_messages"):
        parts = _changed_parts(getattr(old, name), getattr(new, name))
        if parts:
            members[name] = parts
    return members


def _changed_parts(old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, object]:
    """Named parts that are new or different, and None for those that went."""
    changed = {name: part for name, part in new.items() if name not in old or old[name] != part}
    return changed | dict.fromkeys(old.keys() - new.keys())


def _whole_derp_map(old: DERPMap | None, new: DERPMap) -> DERPMap:
    """A map that keeps nothing of the old one."""
    whole = new if new.regions is not UNSET else msgspec.structs.replace(new, regions={})
    if old is not None and old.home_params is not None and new.home_params is None:
        whole = msgspec.structs.replace(whole, home_params=DERPHomeParams(region_score={}))
    return whole
