"""POST /machine/map: MapRequest, MapResponse and what rides in them.

Absence, `null` and emptiness differ in MapResponse: fields typed with UnsetType keep their former value when unset.
Source: tailscale tailcfg/tailcfg.go, control/controlclient/map.go; control reference §6.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET, UnsetType, field

from tailbox.wire.control.derp_map import DERPMap
from tailbox.wire.control.dns import DNSConfig
from tailbox.wire.control.filter import FilterRule
from tailbox.wire.control.json import WireStruct
from tailbox.wire.control.node import CapabilityMap, Hostinfo, Node, UserProfile
from tailbox.wire.control.ssh import SSHPolicy
from tailbox.wire.control.timestamp import Timestamp
from tailbox.wire.keys import DiscoPublicKey, NodePublicKey

KEEP_ALIVE = b'{"KeepAlive":true}'  # byte for byte: the Go client has a fast path for it
ZSTD = "zstd"


class MapRequest(WireStruct, frozen=True, kw_only=True):
    """A long poll (`stream`), a lite update (`omit_peers` alone) or a one-shot question (neither)."""

    version: int = 0
    compress: str = ""  # "zstd" or nothing
    keep_alive: bool = False
    node_key: NodePublicKey
    disco_key: DiscoPublicKey | None = None  # None: no news
    hardware_attestation_key: str = ""
    hardware_attestation_key_signature: bytes | None = None
    hardware_attestation_key_signature_timestamp: Timestamp | None = None
    stream: bool = False
    hostinfo: Hostinfo | None = None
    map_session_handle: str = ""
    map_session_seq: int = 0
    endpoints: tuple[str, ...] | UnsetType = UNSET
    endpoint_types: tuple[int, ...] = ()  # 0 unknown, 1 local, 2 STUN, 3 port mapping, 4 STUN + local port, 5 explicit
    tka_head: str = ""
    read_only: bool = False
    omit_peers: bool = False
    debug_flags: tuple[str, ...] = ()
    connection_handle_for_test: str = ""

    @property
    def is_lite_update(self) -> bool:
        """News of the node, with no wish for an answer."""
        return self.omit_peers and not self.stream and not self.read_only


class PeerChange(WireStruct, frozen=True, kw_only=True):
    """A patch of one peer. Absent members, and zero numbers, change nothing."""

    node_id: int
    derp_region: int = 0
    cap: int = 0
    cap_map: CapabilityMap | UnsetType = UNSET
    endpoints: tuple[str, ...] | UnsetType = UNSET
    key: NodePublicKey | None = None
    key_signature: bytes | None = None
    disco_key: DiscoPublicKey | None = None
    online: bool | None = None
    last_seen: Timestamp | None = None
    key_expiry: Timestamp | UnsetType = UNSET  # year 1: never


class PingRequest(WireStruct, frozen=True, kw_only=True):
    """Something that the node shall answer at a URL. Rides in any message, keep-alives included."""

    url: str = ""
    url_is_noise: bool = False
    log: bool = False
    types: str = ""
    ip: str = ""
    payload: bytes | None = None  # c2n: a raw HTTP/1.x request


class PingResponse(WireStruct, frozen=True, kw_only=True):
    """What a node posts for each way of pinging that worked."""

    type: str = ""
    ip: str = ""
    node_ip: str = ""
    node_name: str = ""
    err: str = ""
    latency_seconds: float = 0.0
    endpoint: str = ""
    peer_relay: str = ""
    derp_region_id: int = 0
    derp_region_code: str = ""
    peer_api_port: int = field(default=0, name="PeerAPIPort")
    is_local_ip: bool = False


class ControlIPCandidate(WireStruct, frozen=True, kw_only=True):
    """One address at which the coordinator answers."""

    ip: str = ""
    ace_host: str = field(default="", name="ACEHost")
    dial_start_delay_sec: float = 0.0
    dial_timeout_sec: float = 0.0
    priority: int = 0


class ControlDialPlan(WireStruct, frozen=True, kw_only=True):
    """Where to dial the coordinator before asking DNS."""

    candidates: tuple[ControlIPCandidate, ...] = ()


class TKAInfo(WireStruct, frozen=True, kw_only=True):
    """The state of tailnet lock."""

    head: str = ""
    disabled: bool = False


class Debug(WireStruct, frozen=True, kw_only=True):
    """Instructions for tests and emergencies."""

    sleep_seconds: float = 0.0
    disable_log_tail: bool = False
    exit: int | None = None


class ClientVersion(WireStruct, frozen=True, kw_only=True):
    """Whether the client is up to date."""

    running_latest: bool = False
    latest_version: str = ""
    urgent_security_update: bool = False
    notify: bool = False
    notify_url: str = ""
    notify_text: str = ""


class DisplayMessageAction(WireStruct, frozen=True, kw_only=True):
    """A link under a message."""

    url: str = ""
    label: str = ""


class DisplayMessage(WireStruct, frozen=True, kw_only=True):
    """A message for the node's user."""

    title: str = ""
    text: str = ""
    severity: str = ""  # "high", "medium", "low"
    impacts_connectivity: bool = False
    primary_action: DisplayMessageAction | None = None


class MapResponse(WireStruct, frozen=True, kw_only=True):
    """One message of the map stream; merged into what the node knows by the rules of control reference §6.5."""

    map_session_handle: str = ""
    seq: int = 0
    keep_alive: bool = False
    ping_request: PingRequest | None = None
    pop_browser_url: str = ""
    node: Node | None = None
    derp_map: DERPMap | None = None
    domain: str = ""
    collect_services: bool | None = None
    debug: Debug | None = None
    ssh_policy: SSHPolicy | None = None
    dns_config: DNSConfig | None = None
    user_profiles: tuple[UserProfile, ...] = ()
    packet_filter: tuple[FilterRule, ...] | UnsetType = UNSET  # unset: keep; (): block all
    packet_filters: Mapping[str, tuple[FilterRule, ...] | None] = {}  # None deletes a part; "*": None all parts first
    peers: tuple[Node, ...] = ()  # not empty: the complete set
    peers_changed: tuple[Node, ...] = ()
    peers_removed: tuple[int, ...] = ()
    peers_changed_patch: tuple[PeerChange, ...] = ()
    peer_seen_change: Mapping[int, bool] = {}
    online_change: Mapping[int, bool] = {}
    health: tuple[str, ...] | UnsetType = UNSET
    display_messages: Mapping[str, DisplayMessage | None] = {}
    control_time: Timestamp | None = None
    tka_info: TKAInfo | None = None
    domain_data_plane_audit_log_id: str = ""
    control_dial_plan: ControlDialPlan | None = None
    client_version: ClientVersion | None = None
    default_auto_update: bool | None = None
