"""What of a node's own words is stored, and how much. Source: control reference §6.1, §6.8; reliability §1.17."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tailbox.errors import Malformed
from tailbox.wire.addresses import Endpoint, parse_network
from tailbox.wire.control.node import Hostinfo

MAX_ENDPOINTS = 64
MAX_ROUTES = 256
MAX_SERVICES = 256  # ours
MAX_TEXT_CHARACTERS = 512  # ours: of one member; the whole request is bounded by its body
MAX_LIST = 64  # ours: host keys, requested tags and the like


def bounded_endpoints(texts: Iterable[str]) -> tuple[str, ...]:
    """Those that peers can use: no zones, no link-local addresses, nothing malformed; the first MAX_ENDPOINTS."""
    kept: dict[str, None] = {}
    for text in texts:
        try:
            endpoint = Endpoint.parse(text)
        except Malformed:
            continue
        address = endpoint.ip
        if endpoint.port and not (address.is_link_local or address.is_multicast or address.is_unspecified):
            kept[str(endpoint)] = None
        if len(kept) == MAX_ENDPOINTS:
            break
    return tuple(kept)


def bounded_hostinfo(hostinfo: Hostinfo) -> Hostinfo:
    """Texts and lists cut to size, malformed routes left out: a prefix with host bits would break peers' maps."""
    changed: dict[str, object] = {
        name: value[:MAX_TEXT_CHARACTERS]
        for name in hostinfo.__struct_fields__
        if isinstance(value := getattr(hostinfo, name), str) and len(value) > MAX_TEXT_CHARACTERS
    }
    changed["routable_ips"] = _routes(hostinfo.routable_ips)
    changed["services"] = tuple(
        msgspec.structs.replace(service, description=service.description[:MAX_TEXT_CHARACTERS])
        for service in hostinfo.services[:MAX_SERVICES]
        if len(service.proto) <= MAX_LIST and 0 <= service.port <= 65535
    )
    for name in ("request_tags", "wol_macs", "ssh_host_keys"):
        texts = getattr(hostinfo, name)
        changed[name] = tuple(text for text in texts[:MAX_LIST] if len(text) <= 2 * MAX_TEXT_CHARACTERS)
    changed["tpm"] = None  # of any size, and read by nobody
    if hostinfo.net_info is not None and len(hostinfo.net_info.derp_latency) > 2 * MAX_ROUTES:
        changed["net_info"] = msgspec.structs.replace(hostinfo.net_info, derp_latency={})
    return msgspec.structs.replace(hostinfo, **changed)


def merged_hostinfo(stored: Hostinfo, news: Hostinfo) -> Hostinfo:
    """The newer one, except where it says "no news": absent NetInfo, PreferredDERP 0 (pitfall 35)."""
    news = bounded_hostinfo(news)
    if news.net_info is None:
        return msgspec.structs.replace(news, net_info=stored.net_info)
    if news.net_info.preferred_derp == 0 and stored.net_info is not None:
        home = stored.net_info.preferred_derp
        return msgspec.structs.replace(news, net_info=msgspec.structs.replace(news.net_info, preferred_derp=home))
    return news


def _routes(texts: Iterable[str]) -> tuple[str, ...]:
    kept: dict[str, None] = {}
    for text in texts:
        try:
            kept[str(parse_network(text))] = None
        except Malformed:
            continue
        if len(kept) == MAX_ROUTES:
            break
    return tuple(kept)
