"""DNSConfig: what a node resolves, and through whom. Source: tailscale tailcfg/tailcfg.go, types/dnstype; §7.2."""

from __future__ import annotations

from collections.abc import Mapping

from tailbox.wire.control.json import WireStruct


class Resolver(WireStruct, frozen=True, kw_only=True):
    """A DNS server: an IP, IP:port, `https://…` or `http://<tailnet address>:port/dns-query`."""

    addr: str = ""
    bootstrap_resolution: tuple[str, ...] = ()
    use_with_exit_node: bool = False


class DNSRecord(WireStruct, frozen=True, kw_only=True):
    """A record that MagicDNS answers besides the nodes' own."""

    name: str = ""
    type: str = ""  # "A", "AAAA", or "" to tell by the value
    value: str = ""


class DNSConfig(WireStruct, frozen=True, kw_only=True):
    """Replaces the former one entirely; all defaults mean no DNS."""

    resolvers: tuple[Resolver, ...] = ()
    routes: Mapping[str, tuple[Resolver, ...] | None] = {}  # suffix → resolvers; () or None: MagicDNS answers
    fallback_resolvers: tuple[Resolver, ...] = ()
    domains: tuple[str, ...] = ()  # search domains
    proxied: bool = False  # MagicDNS is on
    nameservers: tuple[str, ...] = ()  # the old form of resolvers
    cert_domains: tuple[str, ...] = ()
    extra_records: tuple[DNSRecord, ...] = ()
    exit_node_filtered_set: tuple[str, ...] = ()
