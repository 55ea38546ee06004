"""The settings of a node, and how the container variables of the official image map onto them.

Source of the variables: tailscale cmd/containerboot/{main,settings}.go, cmd/tailscaled/proxy.go.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Self

from tailbox.errors import ConfigError, Malformed
from tailbox.runtime.settings import parse_bool, parse_listen
from tailbox.wire.addresses import parse_network

DEFAULT_PROXY = "127.0.0.1:1055"
STATE_FILE_NAME = "tailscaled.state"  # upstream's name and format: a state directory moves between the daemons
SOCKET_NAME = "tailboxd.sock"
MAX_UNIX_SOCKET_PATH_BYTES = 107  # Linux sockaddr_un


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything a node can be told at start. Secrets stay out of `repr`."""

    login_server: str = ""  # URL of the coordinator; needed unless the state directory remembers one
    auth_key: str = field(default="", repr=False)  # joins without a person; `file:PATH` reads a file
    hostname: str = ""  # asked of the coordinator; "" = this machine's
    state_dir: Path | None = None  # keys and preferences; None = in memory, and the node is ephemeral
    ephemeral: bool | None = None  # None: as the state is kept
    listen_port: int = 0  # UDP port of WireGuard; 0 = any free one
    socks5_server: str = ""  # SOCKS5 and HTTP proxy, host:port; "" = none
    socks5_user: str = ""
    socks5_password: str = field(default="", repr=False)
    socks5_public_without_password: bool = False  # must be set to open a proxy without password beyond loopback
    socket: Path | None = None  # LocalAPI; None = in the state directory, if there is one
    advertise_tags: tuple[str, ...] = ()
    advertise_routes: tuple[str, ...] = ()
    accept_routes: bool = False  # use subnet routes of other nodes
    accept_dns: bool = True  # names by MagicDNS
    shields_up: bool = False  # accept no connections
    forward_to: str = "127.0.0.1"  # where connections to this node's tailnet address go; "" = nowhere
    mtu: int = 1280  # of the tunnel; never more towards nodes that are not Tailbox
    always_relay: bool = False  # no direct paths, for tests and odd networks; TS_DEBUG_ALWAYS_USE_DERP
    tls_ca_file: Path | None = None  # PEM authorities instead of the system's, for coordinator and relays
    metrics_listen: str = ""  # /metrics and /healthz, host:port; "" = on the LocalAPI socket only

    def __post_init__(self) -> None:
        if self.login_server and not self.login_server.startswith(("http://", "https://")):
            raise ConfigError("login_server", self.login_server, "wanted an http:// or https:// address")
        if not 0 <= self.listen_port <= 65535:
            raise ConfigError("listen_port", self.listen_port, "wanted 0 to 65535")
        if not 1280 <= self.mtu <= 16384:
            raise ConfigError("mtu", self.mtu, "wanted 1280 to 16384")
        if any(not tag.startswith("tag:") or len(tag) < 5 for tag in self.advertise_tags):
            raise ConfigError("advertise_tags", self.advertise_tags, "wanted names that start with tag:")
        for route in self.advertise_routes:
            try:
                parse_network(route)
            except Malformed:
                raise ConfigError("advertise_routes", route, "wanted a prefix without host bits") from None
        if len(self.hostname) > 253:
            raise ConfigError("hostname", self.hostname[:40] + "…", "longer than 253 characters")
        self._check_proxy()

    @property
    def is_ephemeral(self) -> bool:
        return self.state_dir is None if self.ephemeral is None else self.ephemeral

    @property
    def state_file(self) -> Path | None:
        return self.state_dir / STATE_FILE_NAME if self.state_dir else None

    @property
    def socket_path(self) -> Path | None:
        return self.socket or (self.state_dir / SOCKET_NAME if self.state_dir else None)

    def read_auth_key(self) -> str:
        """The key itself, out of its file if it is `file:PATH`; "" if there is none to be.

        Raises ConfigError, for a blank key and an empty file too: whoever names a key wants to join without a person.
        """
        if not self.auth_key.startswith("file:"):
            if self.auth_key and not self.auth_key.strip():
                raise ConfigError("auth_key", "[blank]", "wanted a key or file:PATH")
            return self.auth_key.strip()
        name = self.auth_key.removeprefix("file:").strip()
        if not name:
            raise ConfigError("auth_key", "file:", "wanted file:PATH")
        path = Path(name).expanduser()
        try:
            key = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is not text"
            raise ConfigError("auth_key", f"file:{path}", why or "cannot be read") from None
        if not key:
            raise ConfigError("auth_key", f"file:{path}", "the file is empty, wanted an auth key")
        return key

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the container variables `TS_*`. Raises ConfigError for those that need a kernel's network."""
        return cls(**container_settings(environment))

    def _check_proxy(self) -> None:
        if bool(self.socks5_user) != bool(self.socks5_password):
            raise ConfigError("socks5_user", self.socks5_user, "user and password come together")
        if not self.socks5_server:
            return
        host, _ = parse_listen("socks5_server", self.socks5_server)
        if is_loopback(host) or self.socks5_password or self.socks5_public_without_password:
            return
        raise ConfigError(
            "socks5_server",
            self.socks5_server,
            "a proxy beyond loopback needs socks5_user and socks5_password (TAILBOX_SOCKS5_USER, "
            "TAILBOX_SOCKS5_PASSWORD), or, open to everybody, socks5_public_without_password "
            "(TAILBOX_SOCKS5_PUBLIC_WITHOUT_PASSWORD=true) besides",
        )


def is_loopback(host: str) -> bool:
    """Whether a listen address is reachable from this machine only."""
    if host == "localhost":
        return True
    for kind in (IPv4Address, IPv6Address):
        try:
            return kind(host).is_loopback
        except ValueError:
            continue
    return False


_REJECTED = {
    "TS_DEST_IP": "needs a kernel's network",
    "TS_EXPERIMENTAL_DEST_DNS_NAME": "needs a kernel's network",
    "TS_TAILNET_TARGET_IP": "needs a kernel's network",
    "TS_TAILNET_TARGET_FQDN": "needs a kernel's network",
    "TS_EXPERIMENTAL_ENABLE_FORWARDING_OPTIMIZATIONS": "needs a kernel's network",
    "EXPERIMENTAL_ALLOW_PROXYING_CLUSTER_TRAFFIC_VIA_INGRESS": "needs a kernel's network",
    "TS_KUBE_SECRET": "state in Kubernetes secrets is not supported",
    "TS_CLIENT_ID": "OAuth login is not supported, use TS_AUTHKEY",
    "TS_CLIENT_SECRET": "OAuth login is not supported, use TS_AUTHKEY",
    "TS_ID_TOKEN": "workload identity is not supported, use TS_AUTHKEY",
    "TS_AUDIENCE": "workload identity is not supported, use TS_AUTHKEY",
    "TS_SERVE_CONFIG": "Serve is not supported",
    "TS_EXPERIMENTAL_VERSIONED_CONFIG_DIR": "versioned configuration is not supported",
    "TS_EGRESS_PROXIES_CONFIG_PATH": "the Kubernetes operator is not supported",
    "TS_INGRESS_PROXIES_CONFIG_PATH": "the Kubernetes operator is not supported",
}
# Read by the official image and without meaning here: TS_AUTH_ONCE (a kept key is always resumed), TS_DEBUG_ADDR_PORT,
# TS_BOOT_TIMEOUT, TS_EXPERIMENTAL_CERT_SHARE, TS_EXPERIMENTAL_SERVICE_AUTO_ADVERTISEMENT, POD_*.


def container_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that `TS_*` variables give, by NodeConfig's field names. Raises ConfigError."""
    for name, why in _REJECTED.items():
        if environment.get(name, "").lower() not in ("", "0", "f", "false"):
            raise ConfigError(name, "[set]", why)
    if environment.get("TS_USERSPACE") and not parse_bool("TS_USERSPACE", environment["TS_USERSPACE"]):
        raise ConfigError("TS_USERSPACE", environment["TS_USERSPACE"], "only userspace networking is supported")
    found: dict[str, Any] = {}
    auth_key = environment.get("TS_AUTHKEY") or environment.get("TS_AUTH_KEY")
    if auth_key:
        found["auth_key"] = auth_key
    if environment.get("TS_HOSTNAME"):
        found["hostname"] = environment["TS_HOSTNAME"]
    if environment.get("TS_STATE_DIR"):
        found["state_dir"] = Path(environment["TS_STATE_DIR"])
    if environment.get("TS_SOCKET"):
        found["socket"] = Path(environment["TS_SOCKET"])
    if "TS_ROUTES" in environment:
        found["advertise_routes"] = _words(environment["TS_ROUTES"].replace(",", " "))
    if environment.get("TS_ACCEPT_DNS"):
        found["accept_dns"] = parse_bool("TS_ACCEPT_DNS", environment["TS_ACCEPT_DNS"])
    if _is_on(environment, "TS_DEBUG_ALWAYS_USE_DERP"):
        found["always_relay"] = True
    found |= _proxy_settings(environment)
    if _is_on(environment, "TS_ENABLE_METRICS") or _is_on(environment, "TS_ENABLE_HEALTH_CHECK"):
        found["metrics_listen"] = environment.get("TS_LOCAL_ADDR_PORT") or "[::]:9002"
    elif environment.get("TS_HEALTHCHECK_ADDR_PORT"):
        found["metrics_listen"] = environment["TS_HEALTHCHECK_ADDR_PORT"]
    found |= _flags("TS_TAILSCALED_EXTRA_ARGS", environment, _DAEMON_FLAGS)
    found |= _flags("TS_EXTRA_ARGS", environment, _UP_FLAGS)
    return found


def _proxy_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """One port serves both proxies. An address beyond loopback is no consent to an open proxy: that is asked twice."""
    socks = environment.get("TS_SOCKS5_SERVER", "")
    http = environment.get("TS_OUTBOUND_HTTP_PROXY_LISTEN", "")
    if socks and http and socks != http:
        raise ConfigError(
            "TS_OUTBOUND_HTTP_PROXY_LISTEN", http, "wanted the address of TS_SOCKS5_SERVER: one port serves both"
        )
    return {"socks5_server": socks or http} if socks or http else {}


_UP_FLAGS = {
    "login-server": "login_server",
    "auth-key": "auth_key",
    "authkey": "auth_key",
    "hostname": "hostname",
    "accept-routes": "accept_routes",
    "accept-dns": "accept_dns",
    "advertise-tags": "advertise_tags",
    "advertise-routes": "advertise_routes",
    "shields-up": "shields_up",
}
_DAEMON_FLAGS = {"port": "listen_port", "statedir": "state_dir", "socket": "socket", "socks5-server": "socks5_server"}


def _flags(variable: str, environment: Mapping[str, str], known: Mapping[str, str]) -> dict[str, Any]:
    """Go-style flags of one variable: `--name=value`, `--name value`, `--switch`."""
    try:
        words = shlex.split(environment.get(variable, ""))
    except ValueError as error:
        raise ConfigError(variable, "[set]", str(error)) from None
    kinds = {item.name: str(item.type) for item in dataclasses.fields(NodeConfig)}
    found: dict[str, Any] = {}
    while words:
        name, equals, value = words.pop(0).lstrip("-").partition("=")
        setting = known.get(name)
        if setting is None:
            raise ConfigError(variable, f"--{name}", "not supported here")
        if not equals and kinds[setting] != "bool":
            if not words:
                raise ConfigError(variable, f"--{name}", "wants a value")
            value = words.pop(0)
        found[setting] = _flag_value(variable, kinds[setting], value if equals or value else "true")
    return found


def _flag_value(variable: str, kind: str, value: str) -> Any:
    if kind == "bool":
        return parse_bool(variable, value)
    if kind == "int":
        if not value.isdigit():
            raise ConfigError(variable, value, "wanted a number")
        return int(value)
    if kind.startswith("tuple"):
        return _words(value.replace(",", " "))
    return Path(value) if kind.startswith("Path") else value


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _is_on(environment: Mapping[str, str], name: str) -> bool:
    return bool(environment.get(name)) and parse_bool(name, environment[name])
