"""DERPMap: regions, and the relays in them. Source: tailscale tailcfg/derpmap.go; control reference §7.4."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET, UnsetType, field

from tailbox.wire.control.json import WireStruct

DEFAULT_STUN_PORT = 3478
DEFAULT_DERP_PORT = 443


class DERPNode(WireStruct, frozen=True, kw_only=True):
    """One relay."""

    name: str = ""
    region_id: int = 0
    host_name: str = ""
    cert_name: str = ""  # another name, or `sha256-raw:<hex>`
    ipv4: str = ""  # "none" disables the family
    ipv6: str = ""
    stun_port: int = 0  # 0: 3478; -1: none
    stun_only: bool = False
    derp_port: int = 0  # 0: 443
    insecure_for_tests: bool = False
    stun_test_ip: str = ""
    can_port80: bool = False
    is_plain_http: bool = field(default=False, name="TailboxPlainHTTP")  # ours: no TLS; other clients ignore it

    @property
    def effective_stun_port(self) -> int | None:
        """The UDP port that answers STUN, or None."""
        return None if self.stun_port < 0 else self.stun_port or DEFAULT_STUN_PORT

    @property
    def effective_derp_port(self) -> int:
        return self.derp_port or DEFAULT_DERP_PORT


class DERPRegion(WireStruct, frozen=True, kw_only=True):
    """Relays that count as one place: tried in order."""

    region_id: int = 0
    region_code: str = ""
    region_name: str = ""
    latitude: float = 0.0
    longitude: float = 0.0
    avoid: bool = False  # the old form of no_measure_no_home
    no_measure_no_home: bool = False
    nodes: tuple[DERPNode, ...] = ()


class DERPHomeParams(WireStruct, frozen=True, kw_only=True):
    """How to choose a home region."""

    region_score: Mapping[int, float] | UnsetType = UNSET  # latency factors; unset: keep, {}: reset


class DERPMap(WireStruct, frozen=True, kw_only=True):
    """Every region. Unset members keep their former value."""

    home_params: DERPHomeParams | None = None
    regions: Mapping[int, DERPRegion] | UnsetType = UNSET  # unset: keep; {}: none
    omit_default_regions: bool = field(default=False, name="omitDefaultRegions")
