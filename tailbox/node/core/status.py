"""What a node says of itself and its peers, as values and in upstream's JSON.

Source: tailscale ipn/ipnstate/ipnstate.go, ipn/backend.go, client/tailscale/apitype/apitype.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from msgspec import UNSET

from tailbox.wire.control.json import to_builtins
from tailbox.wire.control.node import Node, UserProfile
from tailbox.wire.control.timestamp import Timestamp
from tailbox.wire.keys import NodePublicKey

ZERO_TIME = str(Timestamp.zero())
ACTIVE_FOR_S = 45.0  # magicsock.go sessionActiveTimeout

JsonObject = dict[str, object]


class BackendState(IntEnum):
    """The numbers of ipn.State; `text` is the form in status JSON."""

    NO_STATE = 0
    IN_USE_OTHER_USER = 1
    NEEDS_LOGIN = 2
    NEEDS_MACHINE_AUTH = 3
    STOPPED = 4
    STARTING = 5
    RUNNING = 6

    @property
    def text(self) -> str:
        return "".join(word.capitalize() for word in self.name.split("_"))


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A node, as seen from here."""

    node: Node
    is_self: bool = False
    current_address: str = ""  # direct path, "ip:port"
    relay: str = ""  # code of its home region
    candidates: tuple[str, ...] = ()
    received_bytes: int = 0
    sent_bytes: int = 0
    is_active: bool = False
    is_online: bool = False
    is_expired: bool = False
    last_handshake_unix_s: float | None = None
    last_write_unix_s: float | None = None
    has_session: bool = False

    @property
    def key(self) -> NodePublicKey:
        return self.node.key

    @property
    def name(self) -> str:
        """The full name, without the trailing dot."""
        return self.node.name.rstrip(".")

    @property
    def short_name(self) -> str:
        return self.name.partition(".")[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(prefix.partition("/")[0] for prefix in self.node.addresses)

    def to_json(self) -> JsonObject:
        node = self.node
        host = node.hostinfo
        found: JsonObject = {
            "ID": node.stable_id,
            "NodeID": node.id,
            "PublicKey": node.key.text,
            "HostName": (host.hostname if host else "") or self.short_name,
            "DNSName": node.name,
            "OS": host.os if host else "",
            "UserID": node.user,
            "TailscaleIPs": list(self.addresses) or None,
            "AllowedIPs": list(node.effective_allowed_ips),
            "Tags": list(node.tags),
            "PrimaryRoutes": list(node.primary_routes),
            "Addrs": list(self.candidates) or None,
            "CurAddr": self.current_address,
            "Relay": self.relay,
            "PeerRelay": "",
            "RxBytes": self.received_bytes,
            "TxBytes": self.sent_bytes,
            "Created": _time(node.created),
            "LastWrite": _time_at(self.last_write_unix_s),
            "LastSeen": _time(node.last_seen),
            "LastHandshake": _time_at(self.last_handshake_unix_s),
            "Online": self.is_online,
            "ExitNode": False,
            "ExitNodeOption": "0.0.0.0/0" in node.effective_allowed_ips,
            "Active": self.is_active,
            "PeerAPIURL": None,
            "TaildropTarget": 0,
            "NoFileSharingReason": "",
            "InNetworkMap": True,
            "InMagicSock": not self.is_self,
            "InEngine": self.has_session,
        }
        if node.cap_map:
            found["CapMap"] = dict(node.cap_map)
        if self.is_expired:
            found["Expired"] = True
        if node.key_expiry is not None:
            found["KeyExpiry"] = str(node.key_expiry)
        for name in ("AllowedIPs", "Tags", "PrimaryRoutes"):
            if not found[name]:
                del found[name]
        return found


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Everything `tailbox status` shows."""

    version: str
    state: BackendState
    self_status: PeerStatus | None  # None: no netmap yet
    key: NodePublicKey
    has_node_key: bool = False
    auth_url: str = ""
    hostname: str = ""
    peers: tuple[PeerStatus, ...] = ()
    health: tuple[str, ...] = ()
    suffix: str = ""
    tailnet: str = ""
    magic_dns: bool = False
    cert_domains: tuple[str, ...] = ()
    users: Mapping[int, UserProfile] = field(default_factory=dict)

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.self_status.addresses if self.self_status else ()

    def peer(self, wanted: str) -> PeerStatus | None:
        """By name, short name or address."""
        name = wanted.rstrip(".").lower()
        for peer in self.peers:
            if name in (peer.name.lower(), peer.short_name.lower()) or wanted in peer.addresses:
                return peer
        return None

    def to_json(self, *, with_peers: bool = True) -> JsonObject:
        has_tailnet = self.self_status is not None
        tailnet = {
            "Name": self.tailnet,
            "MagicDNSSuffix": self.suffix,
            "MagicDNSEnabled": self.magic_dns,
        }
        found: JsonObject = {
            "Version": self.version,
            "TUN": False,
            "BackendState": self.state.text,
            "HaveNodeKey": self.has_node_key,
            "AuthURL": self.auth_url,
            "TailscaleIPs": list(self.addresses) or None,
            "Self": self.self_status.to_json() if self.self_status else self._self_without_netmap(),
            "Health": list(self.health),
            "MagicDNSSuffix": self.suffix,
            "CurrentTailnet": tailnet if has_tailnet else None,
            "CertDomains": list(self.cert_domains) or None,
            "Peer": {peer.key.text: peer.to_json() for peer in self.peers} if with_peers and self.peers else None,
            "User": {str(user.id): user_json(user) for user in self.users.values()} if with_peers else None,
            "ClientVersion": None,
        }
        if not self.has_node_key:
            del found["HaveNodeKey"]
        return found

    def _self_without_netmap(self) -> JsonObject:
        """Never null: `tailscale up` reads its PublicKey."""
        bare = PeerStatus(Node(id=0, key=self.key), is_self=True).to_json()
        return {**bare, "HostName": self.hostname, "InNetworkMap": False}


@dataclass(frozen=True, slots=True)
class PingResult:
    """The answer to one ping, or why there is none."""

    ip: str
    node_ip: str = ""
    node_name: str = ""
    error: str = ""
    latency_s: float = 0.0
    endpoint: str = ""  # direct path
    region_id: int = 0  # relayed path
    region_code: str = ""
    is_local: bool = False

    @property
    def is_direct(self) -> bool:
        return bool(self.endpoint)

    def to_json(self) -> JsonObject:
        found: JsonObject = {
            "IP": self.ip,
            "NodeIP": self.node_ip,
            "NodeName": self.node_name,
            "Err": self.error,
            "LatencySeconds": self.latency_s,
            "Endpoint": self.endpoint,
            "PeerRelay": "",
            "DERPRegionID": self.region_id,
            "DERPRegionCode": self.region_code,
        }
        if self.is_local:
            found["IsLocalIP"] = True
        return found


@dataclass(frozen=True, slots=True)
class WhoIs:
    """Who is behind an address."""

    node: Node
    user: UserProfile
    capabilities: Mapping[str, list[object]]

    @property
    def name(self) -> str:
        return self.node.name.rstrip(".")

    def to_json(self) -> JsonObject:
        return {
            "Node": node_json(self.node),
            "UserProfile": user_json(self.user),
            "CapMap": dict(self.capabilities) or None,
        }


def node_json(node: Node) -> JsonObject:
    """A tailcfg.Node with the members that the real CLI reads always present."""
    found = to_builtins(node)
    assert isinstance(found, dict)
    short = node.name.rstrip(".").partition(".")[0]
    base: JsonObject = {
        "StableID": node.stable_id,
        "Name": node.name,
        "User": node.user,
        "Addresses": list(node.addresses),
        "AllowedIPs": list(node.effective_allowed_ips),
        "Endpoints": [] if node.endpoints is UNSET else list(node.endpoints),
        "Hostinfo": {},
        "ComputedName": short,
        "ComputedNameWithHost": short,
    }
    return {**base, **found}


def user_json(user: UserProfile) -> JsonObject:
    return {
        "ID": user.id,
        "LoginName": user.login_name,
        "DisplayName": user.display_name,
        "ProfilePicURL": user.profile_pic_url,
    }


def _time(at: Timestamp | None) -> str:
    return ZERO_TIME if at is None else str(at)


def _time_at(unix_s: float | None) -> str:
    return ZERO_TIME if unix_s is None else str(Timestamp.from_unix(unix_s))
