"""Snapshot and viewer → MapResponse: the whole map, as the first message of a stream has it.

A peer looks the same to every viewer (but for what the policy adds), so a Cartographer keeps the looks it has drawn:
ten thousand viewers share ten thousand peers, and the difference of two maps finds unchanged peers by identity.
Source: control reference §6.4, §6.8; order as headscale hscontrol/mapper/builder.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from tailbox.coord.core.access import Access, AccessRules, allow_all
from tailbox.coord.core.devices import EXIT_ROUTES
from tailbox.coord.core.dns import dns_config
from tailbox.coord.core.owners import profile_of
from tailbox.coord.core.records import DAY_S, Role, TailnetNode
from tailbox.coord.core.routes import is_exit_node, primary_routes
from tailbox.coord.core.tailnet import Tailnet
from tailbox.wire.control import capability
from tailbox.wire.control.derp_map import DERPMap
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


class Cartographer:
    """Draws maps, and keeps the looks of peers. One for all streams of a coordinator."""

    def __init__(self, *, derp_map: DERPMap, rules: AccessRules = allow_all) -> None:
        self.derp_map = derp_map
        self.rules = rules
        self._looks: dict[int, _Look] = {}
        self._routes_of: tuple[Tailnet, Mapping[int, tuple[str, ...]]] | None = None

    def netmap(self, tailnet: Tailnet, viewer_id: int, *, now_unix_s: float) -> MapResponse:
        """The whole map of a viewer. An unauthorised one sees itself alone. Raises NotFound."""
        viewer = tailnet.node(viewer_id)
        access = self.rules(tailnet, viewer)
        routes = self._primary_routes(tailnet)
        peers = self._visible_peers(tailnet, viewer, access)
        return MapResponse(
            node=_self_node(tailnet, viewer, access, routes.get(viewer.id, ())),
            derp_map=self.derp_map,
            domain=tailnet.settings.base_domain,
            collect_services=False,
            debug=Debug(disable_log_tail=True),
            ssh_policy=access.ssh_policy,
            dns_config=dns_config(tailnet),
            user_profiles=_profiles(tailnet, (viewer, *peers)),
            packet_filters={BASE_FILTER: access.packet_filter},
            peers=tuple(self._peer(tailnet, viewer, peer, access, routes.get(peer.id, ())) for peer in peers),
            control_time=Timestamp.from_unix(now_unix_s),
        )

    def _visible_peers(self, tailnet: Tailnet, viewer: TailnetNode, access: Access) -> list[TailnetNode]:
        if not viewer.is_authorized:
            return []
        return [
            node
            for node in tailnet.nodes.values()
            if node.is_authorized and node.id != viewer.id and access.is_visible(node)
        ]

    def _primary_routes(self, tailnet: Tailnet) -> Mapping[int, tuple[str, ...]]:
        if self._routes_of is None or self._routes_of[0] is not tailnet:
            self._routes_of = (tailnet, primary_routes(tailnet))
            for node_id in self._looks.keys() - tailnet.nodes.keys():
                del self._looks[node_id]
        return self._routes_of[1]

    def _peer(
        self, tailnet: Tailnet, viewer: TailnetNode, peer: TailnetNode, access: Access, routes: tuple[str, ...]
    ) -> Node:
        node = self._look(tailnet, peer, routes)
        added = access.peer_capabilities.get(peer.id)
        if added:
            node = msgspec.structs.replace(node, cap_map={**node.cap_map, **added})
        if 0 < viewer.capability_version < capability.HOME_DERP and node.home_derp:
            node = msgspec.structs.replace(node, legacy_derp_string=f"{LEGACY_DERP_IP}:{node.home_derp}")
        return node

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
