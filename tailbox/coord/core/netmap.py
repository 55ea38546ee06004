"""Snapshot and viewer → MapResponse: the whole map, as the first message of a stream has it.

A peer looks the same to every viewer (but for what the policy adds), so a Cartographer keeps the looks it has drawn:
ten thousand viewers share ten thousand peers, and the difference of two maps finds unchanged peers by identity. What is
the same for everybody in one snapshot is a scene, set once; a viewer without limits gets it whole, itself left out.
Source: control reference §6.4, §6.8; order as headscale hscontrol/mapper/builder.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from tailbox.coord.core.access import Access, AccessRules, allow_all, everybody
from tailbox.coord.core.devices import EXIT_ROUTES
from tailbox.coord.core.dns import dns_config
from tailbox.coord.core.owners import profile_of
from tailbox.coord.core.records import DAY_S, Role, TailnetNode
from tailbox.coord.core.routes import is_exit_node, primary_routes
from tailbox.coord.core.tailnet import Tailnet
from tailbox.wire.control import capability
from tailbox.wire.control.derp_map import DERPMap
from tailbox.wire.control.dns import DNSConfig
from tailbox.wire.control.map import Debug, MapResponse
from tailbox.wire.control.node import CapabilityMap, Hostinfo, Node, UserProfile
from tailbox.wire.control.timestamp import Timestamp

BASE_FILTER = "base"  # the part of PacketFilters that we send
LEGACY_DERP_IP = "127.3.3.40"  # tailcfg.DerpMagicIP: the port is the region
PEERAPI_PREFIX = "peerapi"
ADMINISTRATORS = frozenset({Role.OWNER, Role.ADMIN, Role.NETWORK_ADMIN, Role.IT_ADMIN})


@dataclass(frozen=True, slots=True)
class _Look:
    """A peer as drawn, and what it was drawn from."""

    record: TailnetNode
    user: int
    base_domain: str
    routes: tuple[str, ...]
    node: Node


@dataclass(frozen=True, slots=True)
class _Scene:
    """One snapshot, as far as viewers share it."""

    tailnet: Tailnet
    routes: Mapping[int, tuple[str, ...]]  # primary routes, by node
    records: tuple[TailnetNode, ...]  # who may be seen at all: the authorised
    looks: tuple[Node, ...]  # in the same order
    places: Mapping[int, int]  # node → place in that order
    profiles: tuple[UserProfile, ...]  # of all of them
    dns_config: DNSConfig


class Cartographer:
    """Draws maps, and keeps the looks of peers. One for all streams of a coordinator."""

    def __init__(self, *, derp_map: DERPMap, rules: AccessRules = allow_all) -> None:
        self.derp_map = derp_map
        self.rules = rules
        self._looks: dict[int, _Look] = {}
        self._scene: _Scene | None = None

    def netmap(self, tailnet: Tailnet, viewer_id: int, *, now_unix_s: float) -> MapResponse:
        """The whole map of a viewer. An unauthorised one sees itself alone. Raises NotFound."""
        viewer = tailnet.node(viewer_id)
        access = self.rules(tailnet, viewer)
        scene = self._scene_of(tailnet)
        peers, profiles = self._peers(scene, viewer, access)
        return MapResponse(
            node=_self_node(tailnet, viewer, access, scene.routes.get(viewer.id, ())),
            derp_map=self.derp_map,
            domain=tailnet.settings.base_domain,
            collect_services=False,
            debug=Debug(disable_log_tail=True),
            ssh_policy=access.ssh_policy,
            dns_config=scene.dns_config,
            user_profiles=profiles,
            packet_filters={BASE_FILTER: access.packet_filter},
            peers=peers,
            control_time=Timestamp.from_unix(now_unix_s),
        )

    def _peers(
        self, scene: _Scene, viewer: TailnetNode, access: Access
    ) -> tuple[tuple[Node, ...], tuple[UserProfile, ...]]:
        """Whom the viewer sees, and the owners of these and of itself."""
        place = scene.places.get(viewer.id)
        if place is None:
            return (), _profiles(scene.tailnet, (viewer,))
        if _sees_all(viewer, access):
            return scene.looks[:place] + scene.looks[place + 1 :], scene.profiles
        seen = [
            (record, look)
            for record, look in zip(scene.records, scene.looks, strict=True)
            if record is not viewer and access.is_visible(record)
        ]
        peers = tuple(_seen_by(viewer, look, access) for _, look in seen)
        return peers, _profiles(scene.tailnet, (viewer, *(record for record, _ in seen)))

    def _scene_of(self, tailnet: Tailnet) -> _Scene:
        """The present one, or a new one for a new snapshot."""
        if self._scene is not None and self._scene.tailnet is tailnet:
            return self._scene
        for node_id in self._looks.keys() - tailnet.nodes.keys():
            del self._looks[node_id]
        routes = primary_routes(tailnet)
        records = tuple(node for node in tailnet.nodes.values() if node.is_authorized)
        self._scene = _Scene(
            tailnet=tailnet,
            routes=routes,
            records=records,
            looks=tuple(self._look(tailnet, record, routes.get(record.id, ())) for record in records),
            places={record.id: place for place, record in enumerate(records)},
            profiles=_profiles(tailnet, records),
            dns_config=dns_config(tailnet),
        )
        return self._scene

    def _look(self, tailnet: Tailnet, peer: TailnetNode, routes: tuple[str, ...]) -> Node:
        look = self._looks.get(peer.id)
        user, base_domain = profile_of(tailnet, peer).id, tailnet.settings.base_domain
        if look is None or look.record is not peer or (look.user, look.base_domain) != (user, base_domain):
            look = None
        if look is None or look.routes != routes:
            look = self._looks[peer.id] = _Look(
                peer, user, base_domain, routes, _peer_node(tailnet, peer, user, routes)
            )
        return look.node


def netmap(
    tailnet: Tailnet, viewer_id: int, *, derp_map: DERPMap, now_unix_s: float, rules: AccessRules = allow_all
) -> MapResponse:
    """One map, drawn from nothing. Raises NotFound."""
    return Cartographer(derp_map=derp_map, rules=rules).netmap(tailnet, viewer_id, now_unix_s=now_unix_s)


def _sees_all(viewer: TailnetNode, access: Access) -> bool:
    """Whether every peer is shown to the viewer as it is."""
    is_unlimited = access.is_visible is everybody and not access.peer_capabilities
    return is_unlimited and not _needs_legacy_derp(viewer)


def _needs_legacy_derp(viewer: TailnetNode) -> bool:
    return 0 < viewer.capability_version < capability.HOME_DERP


def _seen_by(viewer: TailnetNode, look: Node, access: Access) -> Node:
    """A peer with what is there for this viewer only."""
    added = access.peer_capabilities.get(look.id)
    if added:
        look = msgspec.structs.replace(look, cap_map={**look.cap_map, **added})
    if _needs_legacy_derp(viewer) and look.home_derp:
        look = msgspec.structs.replace(look, legacy_derp_string=f"{LEGACY_DERP_IP}:{look.home_derp}")
    return look


def _common_node(tailnet: Tailnet, node: TailnetNode, user: int, routes: tuple[str, ...]) -> Node:
    """What self and peers see alike."""
    addresses = (f"{node.ipv4}/32", f"{node.ipv6}/128")
    expiry = node.effective_expiry_unix_s
    net_info = node.hostinfo.net_info
    return Node(
        id=node.id,
        stable_id=node.stable_id,
        name=tailnet.fqdn(node) + ".",
        user=user,
        key=node.node_key,
        key_expiry=None if expiry is None else Timestamp.from_unix(expiry),
        disco_key=node.disco_key,
        addresses=addresses,
        allowed_ips=addresses + routes + (EXIT_ROUTES if is_exit_node(node) else ()),
        endpoints=node.endpoints,
        home_derp=net_info.preferred_derp if net_info is not None else 0,
        created=Timestamp.from_unix(node.created_unix_s),
        cap=node.capability_version,
        tags=node.tags,
        primary_routes=routes,
        machine_authorized=node.is_authorized,
    )


def _self_node(tailnet: Tailnet, viewer: TailnetNode, access: Access, routes: tuple[str, ...]) -> Node:
    return msgspec.structs.replace(
        _common_node(tailnet, viewer, profile_of(tailnet, viewer).id, routes),
        machine=viewer.machine_key,
        hostinfo=viewer.hostinfo,
        cap_map={**_baseline(tailnet, viewer), **access.capabilities},
    )


def _peer_node(tailnet: Tailnet, peer: TailnetNode, user: int, routes: tuple[str, ...]) -> Node:
    seen = peer.last_seen_unix_s
    return msgspec.structs.replace(
        _common_node(tailnet, peer, user, routes),
        hostinfo=_public_hostinfo(peer.hostinfo),
        online=peer.is_online,
        last_seen=None if peer.is_online or seen is None else Timestamp.from_unix(seen),
    )


def _public_hostinfo(hostinfo: Hostinfo) -> Hostinfo:
    """What peers need: services for PeerAPI, the system, and no more."""
    return Hostinfo(
        os=hostinfo.os,
        hostname=hostinfo.hostname,
        shields_up=hostinfo.shields_up,
        services=tuple(service for service in hostinfo.services if service.proto.startswith(PEERAPI_PREFIX)),
        ssh_host_keys=hostinfo.ssh_host_keys,
        location=hostinfo.location,
    )


def _baseline(tailnet: Tailnet, viewer: TailnetNode) -> CapabilityMap:
    """headscale's, with the administrator's hint only for administrators."""
    settings = tailnet.settings
    found: dict[str, tuple[object, ...] | None] = {
        capability.SSH: (),
        capability.FILE_SHARING: (),
        capability.DEFAULT_AUTO_UPDATE: (False,),
        capability.TAILNET_DISPLAY_NAME: (settings.tailnet_name,),
    }
    if settings.key_duration_days:
        found[capability.MAX_KEY_DURATION] = (settings.key_duration_days * DAY_S,)
    user = tailnet.users.get(viewer.user_id)
    if user is not None and not viewer.is_tagged and user.role in ADMINISTRATORS:
        found[capability.IS_ADMIN] = ()
        if user.role is Role.OWNER:
            found[capability.IS_OWNER] = ()
    return found


def _profiles(tailnet: Tailnet, nodes: tuple[TailnetNode, ...]) -> tuple[UserProfile, ...]:
    """Everybody who owns something in the map, by number."""
    by_id = {profile.id: profile for profile in (profile_of(tailnet, node) for node in nodes)}
    return tuple(by_id[number] for number in sorted(by_id))
