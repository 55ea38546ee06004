"""Settings of the coordination role: one frozen object, checked when it is made.

How a TOML file, the environment and flags fill it is the command line's affair.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import UNSET

from tailbox.errors import ConfigError, Malformed
from tailbox.wire.control.derp_map import DERPMap, DERPNode, DERPRegion
from tailbox.wire.control.json import decode

DEFAULT_BASE_DOMAIN = "tailnet.internal"  # `.internal` is reserved for private use (ICANN resolution 2024.07.29.06)
DEFAULT_REGION_ID = 900  # 900 to 999 are meant for private regions: tailcfg/derpmap.go
MAX_KEY_DURATION_DAYS = 180  # API v2, devicesKeyDurationDays
NO_ADDRESS = "none"  # tailcfg/derpmap.go: a relay without this family; clients then wait for no answer by it
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
PIN = re.compile(r"sha256-raw:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class EmbeddedRelay:
    """The relay that this coordinator's DERP map offers first: usually the same process."""

    host: str  # name or address that nodes dial
    derp_port: int
    stun_port: int = 3478  # -1: no STUN here
    certificate_pin: str | None = None  # `sha256-raw:<hex>` of a self-signed leaf certificate
    is_plain_http: bool = False  # ours: no TLS; our own nodes only
    region_id: int = DEFAULT_REGION_ID
    region_code: str = "home"
    region_name: str = "Home"
    ipv4: str | None = None
    ipv6: str | None = None

    def __post_init__(self) -> None:
        if not self.host:
            raise ConfigError("derp.host", self.host, "must not be empty")
        _check_port("derp.derp_port", self.derp_port)
        if self.stun_port != -1:
            _check_port("derp.stun_port", self.stun_port)
        if not 1 <= self.region_id <= 999:
            raise ConfigError("derp.region_id", self.region_id, "must be between 1 and 999")
        if self.certificate_pin is not None and not PIN.fullmatch(self.certificate_pin):
            raise ConfigError("derp.certificate_pin", self.certificate_pin, "must be sha256-raw: and 64 hex digits")


@dataclass(frozen=True, slots=True)
class CoordConfig:
    """The coordinator's settings."""

    state_directory: Path
    server_url: str  # what nodes and browsers dial: scheme, host, perhaps a port; no path
    base_domain: str = DEFAULT_BASE_DOMAIN  # MagicDNS names are `<node>.<base_domain>`
    tailnet_name: str = "tailbox"  # shown to users; may stand for `-` in REST paths
    owner_login: str = "admin"  # login name of the first user, who owns what auth keys without tags enrol
    relay: EmbeddedRelay | None = None
    derp_map_file: Path | None = None  # JSON in the form of tailcfg.DERPMap; its regions join the relay's own
    node_key_duration_days: int = MAX_KEY_DURATION_DAYS  # 0: node keys never expire
    is_device_approval_required: bool = False
    is_magic_dns_enabled: bool = True
    ephemeral_timeout_s: float = 1800.0  # headscale node.ephemeral.inactivity_timeout
    followup_hold_s: float = 180.0  # how long an interactive registration is held open

    def __post_init__(self) -> None:
        check_server_url(self.server_url)
        check_domain(self.base_domain)
        host = urlsplit(self.server_url).hostname or ""
        if host == self.base_domain or host.endswith("." + self.base_domain):
            # Nodes would resolve the coordinator by MagicDNS, which needs the coordinator.
            raise ConfigError("server_url", self.server_url, f"its host must not lie under {self.base_domain}")
        if not self.tailnet_name or self.tailnet_name == "-" or "/" in self.tailnet_name:
            raise ConfigError("tailnet_name", self.tailnet_name, "must be a name without slashes, and not '-'")
        if not self.owner_login or not self.owner_login.isprintable():
            raise ConfigError("owner_login", self.owner_login, "must be a printable name")
        if not 0 <= self.node_key_duration_days <= MAX_KEY_DURATION_DAYS:
            raise ConfigError("node_key_duration_days", self.node_key_duration_days, "must be between 0 and 180")
        if self.ephemeral_timeout_s <= 0:
            raise ConfigError("ephemeral_timeout_s", self.ephemeral_timeout_s, "must be positive")
        if self.followup_hold_s <= 0:
            raise ConfigError("followup_hold_s", self.followup_hold_s, "must be positive")

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach us by https, so that cookies may say so."""
        return self.server_url.startswith("https:")

    def url(self, path: str) -> str:
        """A URL of ours, as nodes and browsers see it."""
        return self.server_url.rstrip("/") + path


def check_server_url(url: str) -> None:
    """Raises ConfigError unless the URL is http or https with a host and nothing after it.

    A path is refused since `/ts2021` ignores the path of a login server's URL (control.md, pitfall 3).
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError("server_url", url, str(error)) from None
    if parts.scheme not in ("http", "https"):
        raise ConfigError("server_url", url, "must begin with http:// or https://")
    if not parts.hostname or port == 0:
        raise ConfigError("server_url", url, "must name a host")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise ConfigError("server_url", url, "must be scheme, host and port only")


def check_domain(domain: str) -> None:
    """Raises ConfigError unless the name is a lower-case DNS name of at least two labels."""
    labels = domain.split(".")
    if len(domain) > 180 or len(labels) < 2 or not all(LABEL.fullmatch(label) for label in labels):
        raise ConfigError("base_domain", domain, "must be a lower-case domain name such as tailnet.internal")


def _check_port(setting: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise ConfigError(setting, port, "must be between 1 and 65535")


def load_derp_map(config: CoordConfig) -> DERPMap:
    """The map that nodes get: our own relay's region, then those of the file. Raises ConfigError.

    An empty map would leave nodes waiting for ever (control.md, pitfall 13); the caller decides whether to warn.
    """
    regions: dict[int, DERPRegion] = {}
    if config.relay is not None:
        regions[config.relay.region_id] = _region_of(config.relay)
    if config.derp_map_file is not None:
        for region in _regions_in(config.derp_map_file):
            if region.region_id in regions:
                raise ConfigError("derp_map_file", str(config.derp_map_file), f"region {region.region_id} exists twice")
            regions[region.region_id] = region
    return DERPMap(regions=regions, omit_default_regions=True)


def _region_of(relay: EmbeddedRelay) -> DERPRegion:
    ipv4, ipv6 = _addresses_of(relay)
    node = DERPNode(
        name=f"{relay.region_id}a",
        region_id=relay.region_id,
        host_name=relay.host,
        cert_name=relay.certificate_pin or "",
        ipv4=ipv4,
        ipv6=ipv6,
        stun_port=relay.stun_port,
        derp_port=relay.derp_port,
        is_plain_http=relay.is_plain_http,
    )
    return DERPRegion(
        region_id=relay.region_id, region_code=relay.region_code, region_name=relay.region_name, nodes=(node,)
    )


def _addresses_of(relay: EmbeddedRelay) -> tuple[str, str]:
    """As told; a relay that is named by an address has none of the other family."""
    try:
        address = ip_address(relay.host)
    except ValueError:
        return relay.ipv4 or "", relay.ipv6 or ""
    if address.version == 4:
        return relay.ipv4 or str(address), relay.ipv6 or NO_ADDRESS
    return relay.ipv4 or NO_ADDRESS, relay.ipv6 or str(address)


def _regions_in(path: Path) -> list[DERPRegion]:
    """The regions of a DERP map file, each under its own number."""
    try:
        derp_map = decode(DERPMap, path.read_bytes())
    except (OSError, Malformed) as error:
        raise ConfigError("derp_map_file", str(path), str(error)) from None
    regions = {} if derp_map.regions is UNSET else derp_map.regions
    for number, region in regions.items():
        if region.region_id != number:
            raise ConfigError("derp_map_file", str(path), f"region {number} calls itself {region.region_id}")
    return list(regions.values())
