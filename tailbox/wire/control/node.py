"""Nodes and their owners as the map names them: Node, Hostinfo, NetInfo, Service, UserProfile.

Prefixes and endpoints stay texts here: `100.64.0.1/32`, `192.0.2.1:41641`. A bare address where a prefix is wanted
makes Go reject the whole message. Source: tailscale tailcfg/tailcfg.go; control reference §6.8.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET, UnsetType, field

from tailbox.wire.control.dns import Resolver
from tailbox.wire.control.json import CompleteStruct, WireStruct
from tailbox.wire.control.timestamp import Timestamp
from tailbox.wire.keys import DiscoPublicKey, MachinePublicKey, NodePublicKey

CapabilityMap = Mapping[str, tuple[object, ...] | None]  # capability → raw JSON values; None and () both mean present


class Service(WireStruct, frozen=True, kw_only=True):
    """Something that a node listens on: `tcp`, `udp`, or a pseudo protocol such as `peerapi4`."""

    proto: str = ""
    port: int = 0
    description: str = ""


class NetInfo(WireStruct, frozen=True, kw_only=True):
    """What a node found out about its own network."""

    mapping_varies_by_dest_ip: bool | None = None
    working_ipv6: bool | None = None
    os_has_ipv6: bool | None = None
    working_udp: bool | None = None
    working_icmpv4: bool | None = field(default=None, name="WorkingICMPv4")
    have_port_map: bool | None = None
    upnp: bool | None = None
    pmp: bool | None = None
    pcp: bool | None = None
    preferred_derp: int = 0  # home region; 0: no news
    link_type: str = ""
    derp_latency: Mapping[str, float] = {}  # "1-v4" → seconds
    firewall_mode: str = ""


class Location(WireStruct, frozen=True, kw_only=True):
    """Where an exit node is."""

    country: str = ""
    country_code: str = ""
    city: str = ""
    city_code: str = ""
    latitude: float = 0.0
    longitude: float = 0.0
    priority: int = 0


class Hostinfo(WireStruct, frozen=True, kw_only=True):
    """What a node says of its host. Peers get a part of it."""

    ipn_version: str = ""
    frontend_log_id: str = ""
    backend_log_id: str = ""
    os: str = ""
    os_version: str = ""
    container: bool | None = None
    env: str = ""
    distro: str = ""
    distro_version: str = ""
    distro_code_name: str = ""
    app: str = ""
    desktop: bool | None = None
    package: str = ""
    device_model: str = ""
    push_device_token: str = ""
    hostname: str = ""
    shields_up: bool = False
    sharee_node: bool = False
    no_logs_no_support: bool = False
    wire_ingress: bool = False
    ingress_enabled: bool = False
    allows_update: bool = False
    machine: str = ""  # architecture
    go_arch: str = ""
    go_arch_var: str = ""
    go_version: str = ""
    routable_ips: tuple[str, ...] = ()  # announced routes
    request_tags: tuple[str, ...] = ()
    wol_macs: tuple[str, ...] = field(default=(), name="WoLMACs")
    services: tuple[Service, ...] = ()
    net_info: NetInfo | None = None
    ssh_host_keys: tuple[str, ...] = field(default=(), name="sshHostKeys")  # spelled so upstream
    cloud: str = ""
    userspace: bool | None = None
    userspace_router: bool | None = None
    app_connector: bool | None = None
    services_hash: str = ""
    peer_relay: bool = False
    exit_node_id: str = ""
    location: Location | None = None
    tpm: object = field(default=None, name="TPM")
    state_encrypted: bool | None = None


class Node(WireStruct, frozen=True, kw_only=True):
    """A node, as itself or as somebody's peer."""

    id: int
    stable_id: str = ""
    name: str = ""  # FQDN with the trailing dot
    user: int = 0
    sharer: int = 0
    key: NodePublicKey
    key_expiry: Timestamp | None = None  # None: never
    key_signature: bytes | None = None
    machine: MachinePublicKey | None = None
    disco_key: DiscoPublicKey | None = None
    addresses: tuple[str, ...] = ()  # the /32, then the /128
    allowed_ips: tuple[str, ...] | UnsetType = UNSET  # unset: the addresses; (): nothing is routed here
    endpoints: tuple[str, ...] | UnsetType = UNSET
    legacy_derp_string: str = field(default="", name="DERP")  # `127.3.3.40:N`, for capability versions below 111
    home_derp: int = 0
    hostinfo: Hostinfo | None = None
    created: Timestamp | None = None
    cap: int = 0
    tags: tuple[str, ...] = ()
    primary_routes: tuple[str, ...] = ()
    last_seen: Timestamp | None = None
    online: bool | None = None  # None: unknown
    machine_authorized: bool = False
    capabilities: tuple[str, ...] = ()  # the old form of cap_map
    cap_map: CapabilityMap = field(default_factory=dict)
    unsigned_peer_api_only: bool = field(default=False, name="UnsignedPeerAPIOnly")
    expired: bool = False
    self_node_v4_masq_addr_for_this_peer: str = ""
    self_node_v6_masq_addr_for_this_peer: str = ""
    is_wire_guard_only: bool = False
    exit_node_dns_resolvers: tuple[Resolver, ...] = ()
    is_jailed: bool = False
    data_plane_audit_log_id: str = ""

    @property
    def effective_allowed_ips(self) -> tuple[str, ...]:
        """What is routed to the node: its addresses unless said otherwise."""
        return self.addresses if self.allowed_ips is UNSET else self.allowed_ips


class UserProfile(WireStruct, frozen=True, kw_only=True):
    """Who owns nodes, for display and for `whois`."""

    id: int
    login_name: str = ""
    display_name: str = ""
    profile_pic_url: str = ""
    groups: tuple[str, ...] = ()


class User(CompleteStruct, frozen=True, kw_only=True):
    """The owner in a registration's answer; must agree with Node.user and a UserProfile."""

    id: int = 0
    display_name: str = ""
    profile_pic_url: str = ""
    created: Timestamp = Timestamp.zero()


class Login(CompleteStruct, frozen=True, kw_only=True):
    """The account in a registration's answer."""

    id: int = 0
    provider: str = ""
    login_name: str = ""
    display_name: str = ""
    profile_pic_url: str = ""
