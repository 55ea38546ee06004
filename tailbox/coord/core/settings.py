"""The tailnet's settings: who changes what, within which limits."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec

from tailbox.coord.core.change import NO_CHANGE, Change, Event, Outcome, TargetKind
from tailbox.coord.core.records import DnsSettings, Settings
from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import Invalid

MAX_KEY_DURATION_DAYS = 180  # API v2: devicesKeyDurationDays
MAX_NAMESERVERS = 32  # ours: global, and of one domain
MAX_DOMAINS = 256  # ours: search paths, and split DNS

# Which property of the audit schema tells of which setting.
ASPECTS = {
    "is_device_approval_on": "MACHINE_APPROVAL_NEEDED",
    "key_duration_days": "MAX_KEY_DURATION",
    "dns": "DNS_CONFIG",
    "policy": "ACL",
}


def update_settings(tailnet: Tailnet, now_unix_s: float, *, settings: Settings) -> Outcome[None]:
    """Replace the settings: read `tailnet.settings`, replace what changes. Raises Invalid."""
    before = tailnet.settings
    if settings == before:
        return Outcome(tailnet, NO_CHANGE, None)
    if not 0 <= settings.key_duration_days <= MAX_KEY_DURATION_DAYS:
        raise Invalid(f"key duration of {settings.key_duration_days} days: wanted 0 to {MAX_KEY_DURATION_DAYS}")
    _check_dns(settings.dns)
    changed = [name for name in settings.__struct_fields__ if getattr(settings, name) != getattr(before, name)]
    events = tuple(
        Event(TargetKind.TAILNET, "UPDATE", ASPECTS.get(name, name.upper()), target_name=settings.tailnet_name)
        for name in changed
    )
    return Outcome(tailnet.with_settings(settings), Change(has_settings=True, events=events), None)


def set_dns(tailnet: Tailnet, now_unix_s: float, *, dns: DnsSettings) -> Outcome[None]:
    """Replace the DNS part of the settings. Raises Invalid."""
    return update_settings(tailnet, now_unix_s, settings=msgspec.structs.replace(tailnet.settings, dns=dns))


def _check_dns(dns: DnsSettings) -> None:
    for servers in (dns.nameservers, *dns.split_dns.values()):
        if len(servers) > MAX_NAMESERVERS:
            raise Invalid(f"{len(servers)} name servers: at most {MAX_NAMESERVERS}")
        for server in servers:
            _check_nameserver(server)
    if len(dns.search_paths) > MAX_DOMAINS or len(dns.split_dns) > MAX_DOMAINS:
        raise Invalid(f"at most {MAX_DOMAINS} domains")
    for domain in (*dns.search_paths, *dns.split_dns):
        if not domain or len(domain) > 253 or not domain.isascii() or not domain.isprintable() or " " in domain:
            raise Invalid(f"not a domain: {domain[:80]!r}")


def _check_nameserver(server: str) -> None:
    if server.startswith("https://") and server.isascii() and server.isprintable() and len(server) <= 512:
        return
    try:
        ip_address(server)
    except ValueError:
        raise Invalid(f"not a name server: {server[:80]!r}; wanted an IP address or an https URL") from None
