"""Connecting to a relay: TLS with the checks that the DERP map asks for, or plain HTTP.

| `CertName` | check |
|---|---|
| empty | system authorities, name of the host |
| a DNS name | system authorities, this name; the host's is sent as SNI |
| `sha256-raw:…` | the certificate's hash |

`InsecureForTests` switches all checks off. Plain HTTP is for development: our own field of the DERP map, or
TS_DEBUG_USE_DERP_HTTP=1. Source: derp.md §3.3, §19; tailscale derp/derphttp/derphttp_client.go.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailbox.derp.core.client import HttpUpgrade
from tailbox.errors import AuthenticationError
from tailbox.runtime import tls
from tailbox.runtime.byte_stream import ByteStream
from tailbox.runtime.network import Network, TlsOptions
from tailbox.wire.control.derp_map import DEFAULT_DERP_PORT, DERPNode

PLAIN_HTTP_VARIABLE: Final = "TS_DEBUG_USE_DERP_HTTP"  # upstream's name
_TRUE: Final = frozenset(("1", "true", "t"))


@dataclass(frozen=True, slots=True)
class DialSettings:
    """How to connect to relays."""

    unix_time: Callable[[], float]
    plain_http: bool = False  # to every relay, whatever the map says
    authorities: Path | None = None  # a file of PEM certificates instead of the system's


def plain_http_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment asks for relays without TLS."""
    return environment.get(PLAIN_HTTP_VARIABLE, "").lower() in _TRUE


async def dial(
    network: Network, node: DERPNode, settings: DialSettings, *, ideal_node: str = ""
) -> tuple[ByteStream, HttpUpgrade]:
    """Connect and say how to enter. Raises OSError and TailboxError."""
    is_plain = settings.plain_http or node.is_plain_http
    port = node.effective_derp_port
    stream = await _connect_any(network, node, port, None if is_plain else tls_options(node, settings))
    host = f"[{node.host_name}]" if ":" in node.host_name else node.host_name
    authority = host if port == (80 if is_plain else DEFAULT_DERP_PORT) else f"{host}:{port}"
    return stream, HttpUpgrade(authority, ideal_node=ideal_node)


def tls_options(node: DERPNode, settings: DialSettings) -> TlsOptions:
    """The checks of the module's table. Raises ConfigError for a pin that is none."""
    name = node.host_name
    if node.insecure_for_tests:
        return TlsOptions(tls.unverified_client_context(), name)
    if tls.is_pin(node.cert_name):
        verify = tls.pinned_verifier(node.cert_name, name, unix_time=settings.unix_time)
        return TlsOptions(tls.unverified_client_context(), name, verify)
    context = tls.client_context(authorities=settings.authorities)
    if node.cert_name and node.cert_name != name:
        context.check_hostname = False  # checked by `verify`, against the other name
        return TlsOptions(context, name, _name_verifier(node.cert_name))
    return TlsOptions(context, name)


async def _connect_any(network: Network, node: DERPNode, port: int, options: TlsOptions | None) -> ByteStream:
    """Try the map's literal addresses, IPv6 last; without them, the name."""
    literals = [text for text in (node.ipv4, node.ipv6) if _is_address(text)]
    failure: OSError = OSError(f"relay {node.name} has no address")
    for host in literals or [node.host_name]:
        try:
            return await network.connect_tcp(host, port, tls=options)
        except OSError as error:
            failure = error
    raise failure


def _name_verifier(wanted: str) -> Callable[[ssl.SSLObject], None]:
    """For certificates that name another host than the one connected to. Raises AuthenticationError."""

    def verify(connection: ssl.SSLObject) -> None:
        certificate = connection.getpeercert() or {}
        alternatives = certificate.get("subjectAltName", ())
        names = {str(entry[1]).lower() for entry in alternatives if entry[0] == "DNS"}
        if wanted.lower() not in names and f"*.{wanted.lower().partition('.')[2]}" not in names:
            raise AuthenticationError

    return verify


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
