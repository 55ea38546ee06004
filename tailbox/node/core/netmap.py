"""The map stream, merged: MapResponses in, one current Netmap out.

Absence and emptiness differ, and patches have blind spots; both are kept as the real client has them, since
coordinators are written against it. Source: tailscale control/controlclient/map.go; control reference §6.5, §6.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from msgspec import UNSET
from msgspec.structs import replace as change

from tailbox.wire.control.derp_map import DERPMap
from tailbox.wire.control.dns import DNSConfig
from tailbox.wire.control.filter import FilterRule
from tailbox.wire.control.map import DisplayMessage, MapResponse, PeerChange
from tailbox.wire.control.node import Node, UserProfile
from tailbox.wire.control.timestamp import Timestamp

TRUSTED_CONTROL_TIME_UNIX_S = 1_672_531_200.0  # 2023-01-01: an older clock is a test's
TOLERATED_SKEW_S = 60.0  # smaller differences to the coordinator's clock are ignored
EVERY_PART = "*"  # of packet_filters and display_messages: clears all first
BASE_PART = "base"  # where a plain packet_filter goes

# A peer that differs in any of these is replaced as a whole; in others only, it is patched.
_REPLACING_FIELDS = (
    "name", "user", "sharer", "stable_id", "machine", "addresses", "allowed_ips", "hostinfo", "created", "tags",
    "primary_routes", "machine_authorized", "unsigned_peer_api_only", "is_wire_guard_only", "is_jailed", "expired",
    "self_node_v4_masq_addr_for_this_peer", "self_node_v6_masq_addr_for_this_peer", "exit_node_dns_resolvers",
    "capabilities", "data_plane_audit_log_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Netmap:
    """What the coordinator says of the tailnet, as of now."""

    self_node: Node
    peers: Mapping[int, Node] = field(default_factory=dict)  # by ID
    derp_map: DERPMap = field(default_factory=DERPMap)
    dns: DNSConfig = field(default_factory=DNSConfig)
    domain: str = ""
    users: Mapping[int, UserProfile] = field(default_factory=dict)
    rules: tuple[FilterRule, ...] = ()
    health: tuple[str, ...] = ()
    messages: Mapping[str, DisplayMessage] = field(default_factory=dict)
    clock_skew_s: float = 0.0  # coordinator's clock minus ours
    has_tailnet_lock: bool = False

    @property
    def suffix(self) -> str:
        """The MagicDNS suffix: the self name without its first label."""
        return self.self_node.name.rstrip(".").partition(".")[2].lower()

    def is_expired(self, node: Node, *, now_unix_s: float) -> bool:
        """Whether a node's key is past its time, by the coordinator's clock."""
        expiry = node.key_expiry
        return node.expired or (
            expiry is not None and not expiry.is_zero and expiry.unix_s <= now_unix_s + self.clock_skew_s
        )

    def next_expiry_unix_s(self, *, now_unix_s: float) -> float | None:
        """When the next key runs out, by our own clock: the view has to be made anew then."""
        coming = [
            node.key_expiry.unix_s - self.clock_skew_s
            for node in (self.self_node, *self.peers.values())
            if node.key_expiry is not None and not self.is_expired(node, now_unix_s=now_unix_s)
        ]
        return min((at for at in coming if at > now_unix_s), default=None)


class NetmapReducer:
    """Merges one map stream. A new stream starts from nothing: use a new reducer."""

    def __init__(self) -> None:
        self.netmap: Netmap | None = None
        self._parts: dict[str, tuple[FilterRule, ...]] = {}

    def apply(self, message: MapResponse, *, now_unix_s: float) -> str | None:
        """Merge one message into `netmap`. Returns what is wrong with it, after which the stream is of no use."""
        if message.keep_alive:
            self._take_time(message, now_unix_s)
            return None
        if self.netmap is None:
            if message.node is None:
                return "initial MapResponse lacked node"
            self.netmap = Netmap(message.node)
        merged = replace(
            self.netmap,
            self_node=message.node or self.netmap.self_node,
            peers=_merge_peers(self.netmap.peers, message, now_unix_s),
            derp_map=_merge_derp_map(self.netmap.derp_map, message.derp_map),
            dns=self.netmap.dns if message.dns_config is None else message.dns_config,
            domain=message.domain or self.netmap.domain,
            rules=self._merge_rules(message),
            health=self.netmap.health if message.health is UNSET else message.health,
        )
        if message.user_profiles:
            merged = replace(merged, users={**merged.users, **{user.id: user for user in message.user_profiles}})
        if message.display_messages:
            merged = replace(merged, messages=_merge_messages(merged.messages, message.display_messages))
        if message.tka_info is not None:
            merged = replace(merged, has_tailnet_lock=bool(message.tka_info.head) and not message.tka_info.disabled)
        self.netmap = merged
        self._take_time(message, now_unix_s)
        return None

    def _take_time(self, message: MapResponse, now_unix_s: float) -> None:
        if message.control_time is None or self.netmap is None:
            return
        control = message.control_time.unix_s
        skew = control - now_unix_s if control >= TRUSTED_CONTROL_TIME_UNIX_S else 0.0
        self.netmap = replace(self.netmap, clock_skew_s=skew if abs(skew) > TOLERATED_SKEW_S else 0.0)

    def _merge_rules(self, message: MapResponse) -> tuple[FilterRule, ...]:
        parts = self._parts
        if message.packet_filter is not UNSET:
            parts[BASE_PART] = message.packet_filter
        if message.packet_filters:
            if EVERY_PART in message.packet_filters and message.packet_filters[EVERY_PART] is None:
                parts.clear()
            for name, rules in message.packet_filters.items():
                if rules is not None:
                    parts[name] = rules
                elif name != EVERY_PART:
                    parts.pop(name, None)
        return tuple(rule for name in sorted(parts) for rule in parts[name])


def _merge_peers(known: Mapping[int, Node], message: MapResponse, now_unix_s: float) -> Mapping[int, Node]:
    if message.peers:
        return {peer.id: peer for peer in message.peers}
    whole, patches = _sort_changes(known, message.peers_changed)
    patches += message.peers_changed_patch
    if not (message.peers_removed or whole or patches or message.peer_seen_change or message.online_change):
        return known
    peers = dict(known)
    for node_id in message.peers_removed:
        peers.pop(node_id, None)
    peers |= {peer.id: peer for peer in whole}
    now = Timestamp.from_unix(now_unix_s)
    for node_id, seen in message.peer_seen_change.items():
        if node_id in peers:
            peers[node_id] = change(peers[node_id], last_seen=now if seen else None)
    for node_id, online in message.online_change.items():
        if node_id in peers:
            peers[node_id] = change(peers[node_id], online=online)
    for patch in patches:
        if patch.node_id in peers:
            peers[patch.node_id] = _patched(peers[patch.node_id], patch)
    return peers


def _sort_changes(known: Mapping[int, Node], changed: tuple[Node, ...]) -> tuple[list[Node], list[PeerChange]]:
    """Which changed peers replace what is known, and which merely patch it."""
    whole: list[Node] = []
    patches: list[PeerChange] = []
    for new in changed:
        old = known.get(new.id)
        if old is None or any(getattr(old, name) != getattr(new, name) for name in _REPLACING_FIELDS):
            whole.append(new)
        elif (patch := _difference(old, new)) is not None:
            patches.append(patch)
    return whole, patches


def _difference(old: Node, new: Node) -> PeerChange | None:
    """The patch from old to new; what it cannot say (no endpoints, no home, online unknown) stays as it was."""
    patch = PeerChange(
        node_id=new.id,
        derp_region=new.home_derp if new.home_derp != old.home_derp else 0,
        cap=new.cap if new.cap != old.cap else 0,
        cap_map=new.cap_map if new.cap_map != old.cap_map else UNSET,
        endpoints=new.endpoints if new.endpoints != old.endpoints else UNSET,
        key=new.key if new.key != old.key else None,
        key_signature=new.key_signature if new.key_signature != old.key_signature else None,
        disco_key=new.disco_key if new.disco_key != old.disco_key else None,
        online=new.online if old.online is not None and new.online != old.online else None,
        last_seen=new.last_seen if old.last_seen is not None and new.last_seen != old.last_seen else None,
        key_expiry=(new.key_expiry or Timestamp.zero()) if new.key_expiry != old.key_expiry else UNSET,
    )
    return patch if patch != PeerChange(node_id=new.id) else None


def _patched(node: Node, patch: PeerChange) -> Node:
    expiry = node.key_expiry if patch.key_expiry is UNSET else patch.key_expiry
    return change(
        node,
        home_derp=patch.derp_region or node.home_derp,
        cap=patch.cap or node.cap,
        cap_map=node.cap_map if patch.cap_map is UNSET else patch.cap_map,
        endpoints=node.endpoints if patch.endpoints is UNSET else patch.endpoints,
        key=patch.key or node.key,
        key_signature=patch.key_signature or node.key_signature,
        disco_key=patch.disco_key or node.disco_key,
        online=node.online if patch.online is None else patch.online,
        last_seen=patch.last_seen or node.last_seen,
        key_expiry=None if expiry is None or expiry.is_zero else expiry,
    )


def _merge_derp_map(known: DERPMap, news: DERPMap | None) -> DERPMap:
    if news is None:
        return known
    keeps = news.regions is UNSET
    params = known.home_params
    if news.home_params is not None:
        keeps_scores = news.home_params.region_score is UNSET and params is not None
        params = params if keeps_scores else news.home_params
    return change(
        news,
        regions=known.regions if keeps else news.regions,
        omit_default_regions=known.omit_default_regions if keeps else news.omit_default_regions,
        home_params=params,
    )


def _merge_messages(
    known: Mapping[str, DisplayMessage], news: Mapping[str, DisplayMessage | None]
) -> dict[str, DisplayMessage]:
    merged = {} if EVERY_PART in news and news[EVERY_PART] is None else dict(known)
    for name, message in news.items():
        if message is not None:
            merged[name] = message
        else:
            merged.pop(name, None)
    return merged
