"""The composition root: coordinator and relay of one process, from one configuration, on one port.

`server.py`, `tailbox serve`, the lab and the classroom all start here. A node beside them is a `tailbox.Node`.
"""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tailbox.derp.metacert import metacert_pem
from tailbox.errors import ConfigError
from tailbox.runtime.network import HostNetwork
from tailbox.runtime.service import Address, Bound, Listen, RunningServer, Service, serve
from tailbox.runtime.system import SystemClock, SystemRandom
from tailbox.runtime.tls import Certificate, development_certificate, limit_read_buffers, server_context
from tailbox.telemetry.events import EventLog

if TYPE_CHECKING:
    from tailbox.clock import Clock
    from tailbox.coord.app import Coord
    from tailbox.derp.app import DerpRole
    from tailbox.randomness import RandomSource

ROLES = ("coord", "derp", "node")
PORTS_TRIED = 100  # ours: from the first port on, before giving up
LISTEN_FILE = "listen-url"  # in the state directory while we run: where `/healthz` answers


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What an operator may tell `tailbox serve`. Empty texts mean: found out."""

    roles: tuple[str, ...] = ("coord", "derp")
    state_dir: Path = Path("state")  # `coord/`, `derp/` and `tls/` below it
    listen: str = "127.0.0.1:8080"  # REST, console, /key, /ts2021, /derp
    tls_listen: str = ""  # the same with TLS; unmodified clients speak to a relay in no other way
    tls_cert: Path | None = None  # PEM chain, leaf first; none: a development certificate, pinned in the DERP map
    tls_key: Path | None = None
    url: str = ""  # the coordinator as nodes and browsers dial it; "": the listen address
    tailnet_name: str = "tailbox"
    base_domain: str = "tailnet.internal"
    owner_login: str = "admin"  # login name of the first user, made at the first start
    device_approval: bool = False  # nodes without a pre-approved key wait for an administrator; at the first start
    key_duration_days: int = 180  # 0: node keys never expire; at the first start
    magic_dns: bool = True  # nodes resolve each other's names; at the first start
    ephemeral_timeout_s: float = 1800.0  # how long ephemeral nodes may stay away before they are removed
    derp_host: str = ""  # the relay as nodes dial it; "": the host of `url`
    derp_port: int = 0  # as nodes dial it; 0: the port that is listened on
    derp_region_code: str = "home"
    derp_region_name: str = "Home"
    derp_map_file: Path | None = None  # further regions, JSON as tailcfg.DERPMap
    stun_port: int = 3478  # UDP; 0: any free one, -1: no STUN
    verify_clients: bool = True  # with both roles: only nodes of the tailnet may use the relay
    verify_client_url: str = ""  # a relay alone: asked by POST who may connect
    rate_limit_bytes_per_s: int = -1  # one client of the relay; 0: none; -1: none for verified clients, else 12.5 MB

    def __post_init__(self) -> None:
        unknown = [role for role in self.roles if role not in ROLES]
        if unknown or not self.roles:
            raise ConfigError("role", ",".join(self.roles), f"wanted some of {', '.join(ROLES)}")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ConfigError("tls_cert", str(self.tls_cert), "certificate and key come together")
        Address.parse(self.listen)
        if self.tls_listen:
            Address.parse(self.tls_listen)

    @classmethod
    def for_this_process(cls, state_dir: Path) -> Self:
        """Coordinator and relay on free ports of loopback: for tests, notebooks and demonstrations."""
        free = "127.0.0.1:0"
        return cls(state_dir=state_dir, listen=free, tls_listen=free, stun_port=0, derp_host="127.0.0.1")


class Tailnet:
    """Running roles. Also an async context manager that stops at its end."""

    def __init__(
        self,
        running: RunningServer,
        coord: Coord | None,
        derp: DerpRole | None,
        *,
        url: str,
        listen_file: Path,
        events: EventLog,
    ) -> None:
        self.url = url
        self._listen_file = listen_file
        self.events = events
        self.coord = coord
        self.derp = derp
        self._running = running

    @property
    def addresses(self) -> tuple[Bound, ...]:
        """What is listened on, with real ports."""
        return self._running.addresses

    def sign_in_link(self) -> str:
        """A one-time link to the console. Raises RuntimeError without the role coord."""
        return self._coordinator().sign_in_link()

    async def create_auth_key(self, *, description: str = "", is_reusable: bool = False) -> str:
        """A pre-approved auth key. Raises RuntimeError without the role coord."""
        return await self._coordinator().create_auth_key(description=description, is_reusable=is_reusable)

    async def stop(self) -> None:
        """Takes less than two seconds; harmless twice."""
        self._listen_file.unlink(missing_ok=True)
        await self._running.stop()

    async def wait(self) -> None:
        await self._running.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.stop()

    def _coordinator(self) -> Coord:
        if self.coord is None:
            raise RuntimeError("this process does not run the role coord")
        return self.coord


async def start_server(config: ServerConfig) -> Tailnet:
    """Start coordinator, relay or both; returns once they answer. Raises ConfigError, ListenError."""
    config = _with_ports(config)
    make_state_directory(config.state_dir)
    clock, random = SystemClock(), SystemRandom()
    events = EventLog(clock.unix_time)
    certificate = _certificate(config, clock.unix_time())
    services: list[Service] = []
    coord = derp = None
    async with AsyncExitStack() as on_failure:
        if "coord" in config.roles:
            coord = await _open_coord(config, certificate)
            on_failure.push_async_callback(coord.close)
            services.append(coord.service)
        if "derp" in config.roles:
            derp = _open_derp(config, coord, clock=clock, random=random, events=events)
            services.append(derp.service())
        running = await serve(services, listen=_listen(config, certificate, derp, clock.unix_time()))
        on_failure.pop_all()
    listen_file = config.state_dir / LISTEN_FILE
    listen_file.write_text(running.url + "\n")
    return Tailnet(running, coord, derp, url=public_url(config), listen_file=listen_file, events=events)


def make_state_directory(path: Path) -> None:
    """Mode 0700. Raises ConfigError."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError("state_dir", str(path), error.strerror or str(error)) from None


def public_url(config: ServerConfig) -> str:
    """The coordinator's URL: as given, else the address that is listened on; every interface shows as this host."""
    if config.url:
        return config.url.rstrip("/")
    address = Address.parse(config.listen)
    host = socket.gethostname() if address.host in ("", "0.0.0.0", "::") else address.host
    return f"http://{Address(host, address.port)}"


def free_port(first: int = 0, *, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """The first port from `first` on that nobody has, or any with 0. Raises ConfigError after PORTS_TRIED."""
    for port in range(first, first + PORTS_TRIED) if first else (0,):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind is socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME-WAIT of a last run is no obstacle
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError("port", first, f"neither it nor the {PORTS_TRIED - 1} after it are free")


def _with_ports(config: ServerConfig) -> ServerConfig:
    """Ports 0 settled: the DERP map and the URL name them before anything listens."""
    listen, tls_listen = _with_port(config.listen), _with_port(config.tls_listen)
    stun_port = config.stun_port or free_port(kind=socket.SOCK_DGRAM)
    return replace(config, listen=listen, tls_listen=tls_listen, stun_port=stun_port)


def _with_port(listen: str) -> str:
    if not listen:
        return ""
    address = Address.parse(listen)
    return str(address if address.port else Address(address.host, free_port()))


def _certificate(config: ServerConfig, unix_now_s: float) -> Certificate | None:
    """The operator's, or a development certificate; None without a TLS address."""
    if not config.tls_listen:
        return None
    limit_read_buffers()
    if config.tls_cert is not None and config.tls_key is not None:
        return Certificate(config.tls_cert, config.tls_key)
    return development_certificate(config.state_dir / "tls", [_derp_host(config)], unix_now_s=unix_now_s)


def _derp_host(config: ServerConfig) -> str:
    return config.derp_host or urlsplit(public_url(config)).hostname or "127.0.0.1"


async def _open_coord(config: ServerConfig, certificate: Certificate | None) -> Coord:
    from tailbox.coord.app import open_coord
    from tailbox.coord.config import CoordConfig, EmbeddedRelay

    relay = None
    if "derp" in config.roles:
        tls_port = Address.parse(config.tls_listen).port if config.tls_listen else 0
        is_pinned = certificate is not None and config.tls_cert is None
        relay = EmbeddedRelay(
            host=_derp_host(config),
            derp_port=config.derp_port or tls_port or Address.parse(config.listen).port,
            stun_port=config.stun_port,
            certificate_pin=certificate.pin if certificate is not None and is_pinned else None,
            is_plain_http=not config.tls_listen and not config.derp_port,
            region_code=config.derp_region_code,
            region_name=config.derp_region_name,
        )
    return await open_coord(
        CoordConfig(
            state_directory=config.state_dir / "coord",
            server_url=public_url(config),
            base_domain=config.base_domain,
            tailnet_name=config.tailnet_name,
            relay=relay,
            derp_map_file=config.derp_map_file,
            node_key_duration_days=config.key_duration_days,
            is_device_approval_required=config.device_approval,
            is_magic_dns_enabled=config.magic_dns,
            ephemeral_timeout_s=config.ephemeral_timeout_s,
            owner_login=config.owner_login,
        )
    )


def _open_derp(
    config: ServerConfig, coord: Coord | None, *, clock: Clock, random: RandomSource, events: EventLog
) -> DerpRole:
    from tailbox.derp.admission import AdmissionByCall
    from tailbox.derp.app import DerpRole
    from tailbox.derp.config import DerpConfig, load_or_create_key

    verifies = (coord is not None and config.verify_clients) or bool(config.verify_client_url)
    settings = DerpConfig(
        stun_port=config.stun_port,
        home_page="none" if coord is not None else "page",
        verify_client_url=config.verify_client_url,
    )
    limit = config.rate_limit_bytes_per_s
    if limit >= 0 or verifies:
        settings = replace(settings, rate_limit_bytes_per_s=max(0, limit))
    return DerpRole(
        settings,
        load_or_create_key(config.state_dir / "derp" / "derper.key", random=random),
        network=HostNetwork(),
        clock=clock,
        random=random,
        admission=AdmissionByCall(coord.knows_node) if coord is not None and config.verify_clients else None,
        events=events,
    )


def _listen(
    config: ServerConfig, certificate: Certificate | None, derp: DerpRole | None, unix_now_s: float
) -> list[Listen]:
    addresses = [Listen(Address.parse(config.listen))]
    if certificate is not None:
        metacert = metacert_pem(derp.server.public_key, unix_now_s=unix_now_s) if derp is not None else b""
        tls = server_context(certificate, extra_chain_pem=metacert)
        addresses.append(Listen(Address.parse(config.tls_listen), tls))
    return addresses
