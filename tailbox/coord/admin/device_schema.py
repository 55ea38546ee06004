"""A device as the REST API shows it. Source: Tailscale OpenAPI v2, schema `Device`; api-and-console reference §2."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from tailbox.coord.admin.operation import AnswerStruct, RequestStruct


class RegionLatency(AnswerStruct, frozen=True):
    """How far a relay region is from a device."""

    latency_ms: float
    preferred: bool | UnsetType = UNSET


class ClientSupports(AnswerStruct, frozen=True):
    """What the network of a device lets it do; None: not known."""

    hair_pinning: bool | None = None
    ipv6: bool | None = None
    pcp: bool | None = None
    pmp: bool | None = None
    udp: bool | None = None
    upnp: bool | None = None


class ClientConnectivity(AnswerStruct, frozen=True):
    """What a device last told of its network."""

    endpoints: tuple[str, ...]
    derp: str
    latency: dict[str, RegionLatency]
    client_supports: ClientSupports
    mapping_varies_by_dest_ip: bool | None = msgspec.field(default=None, name="mappingVariesByDestIP")


class Distro(AnswerStruct, frozen=True):
    """The operating system's distribution."""

    name: str
    version: str
    code_name: str


class Device(AnswerStruct, frozen=True):
    """A node of the tailnet. The last five members appear with `fields=all` only."""

    addresses: tuple[str, ...]
    id: str
    node_id: str
    user: str
    name: str
    hostname: str
    client_version: str
    update_available: bool
    os: str
    created: str
    connected_to_control: bool
    key_expiry_disabled: bool
    expires: str
    authorized: bool
    is_external: bool
    is_ephemeral: bool
    multiple_connections: bool
    machine_key: str
    node_key: str
    blocks_incoming_connections: bool
    tailnet_lock_key: str
    tailnet_lock_error: str
    last_seen: str | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    enabled_routes: tuple[str, ...] | UnsetType = UNSET
    advertised_routes: tuple[str, ...] | UnsetType = UNSET
    client_connectivity: ClientConnectivity | UnsetType = UNSET
    ssh_enabled: bool | UnsetType = UNSET
    distro: Distro | UnsetType = UNSET


class DeviceList(AnswerStruct, frozen=True):
    """All devices that the filters let through."""

    devices: tuple[Device, ...]


class DeviceRoutes(AnswerStruct, frozen=True):
    """What a device offers to route, and what of it (or beyond it) an administrator has enabled."""

    advertised_routes: tuple[str, ...]
    enabled_routes: tuple[str, ...]


class SetAuthorized(RequestStruct, frozen=True):
    """Approve a device, or take the approval back."""

    authorized: bool


class SetName(RequestStruct, frozen=True):
    """A host name or a name with the tailnet's domain; empty: the name that the operating system tells."""

    name: str


class SetIp(RequestStruct, frozen=True):
    """Another IPv4 address."""

    ipv4: str


class SetTags(RequestStruct, frozen=True):
    """The tags a device shall have, in place of those it has."""

    tags: tuple[str, ...]


class SetKey(RequestStruct, frozen=True):
    """Whether the device's key expires."""

    key_expiry_disabled: bool


class SetRoutes(RequestStruct, frozen=True):
    """The routes to enable, in place of those that are."""

    routes: tuple[str, ...]
