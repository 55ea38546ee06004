"""Settings → DNSConfig. With MagicDNS on, clients make the nodes' records. Source: control reference §7.2."""

from __future__ import annotations

from tailbox.coord.core.tailnet import Tailnet
from tailbox.wire.control.dns import DNSConfig, Resolver


def dns_config(tailnet: Tailnet) -> DNSConfig:
    """The same for every node. The first search domain is the tailnet's suffix, by custom."""
    settings = tailnet.settings
    dns = settings.dns
    resolvers = _resolvers(dns.nameservers)
    return DNSConfig(
        resolvers=resolvers if dns.is_override_local else (),
        fallback_resolvers=() if dns.is_override_local else resolvers,
        routes={domain: _resolvers(servers) for domain, servers in dns.split_dns.items()},
        domains=(settings.base_domain, *dns.search_paths) if dns.is_magic_dns else dns.search_paths,
        proxied=dns.is_magic_dns,
    )


def _resolvers(servers: tuple[str, ...]) -> tuple[Resolver, ...]:
    return tuple(Resolver(addr=server) for server in servers)
