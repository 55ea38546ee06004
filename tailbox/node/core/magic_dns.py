"""MagicDNS: names of the tailnet to answers.

Order of tailscale net/dns/resolver/tsdns.go: exact names, then NXDOMAIN within the tailnet's own zones, then what is
not ours: REFUSED, since no resolvers are forwarded to. (Upstream says SERVFAIL there, which makes clients ask us again;
a refusal sends them to their next server at once.) Short names are for dialling only; DNS clients send the full name,
their search domains being an OS matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tailbox.errors import Malformed
from tailbox.wire.addresses import SERVICE_IPV4, SERVICE_IPV6, IPAddress
from tailbox.wire.dns import Query, Record, RecordType, ResponseCode, decode_query, encode_response

POSITIVE_TTL_S = 5  # net/dns/resolver/tsdns.go defaultTTL… of its own names
NEGATIVE_TTL_S = 10  # …and of their absence
SERVICE_NAME = "magicdns.localhost-tailscale-daemon"
NOT_IMPLEMENTED_TYPES = frozenset({2, 6, 13, 252})  # NS, SOA, HINFO, AXFR
BONJOUR_PREFIXES = tuple(f"{kind}._dns-sd._udp." for kind in ("b", "db", "r", "dr", "lb"))
REVERSE_SUFFIX = ".arpa"
REVERSE_ZONES = (*(f"{second}.100.in-addr.arpa" for second in range(64, 128)), "0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa")


@dataclass(frozen=True, slots=True)
class Zone:
    """What the netmap says about names. Keys are lower case, without a trailing dot."""

    names: Mapping[str, Sequence[IPAddress]] = field(default_factory=dict)
    suffix: str = ""  # "tail1234.ts.net"; "" without MagicDNS
    search_domains: tuple[str, ...] = ()
    answers_ipv6: bool = False  # AAAA also for hosts that have IPv4: node capability magicdns-aaaa


class MagicDns:
    """Answers for one zone; `set_zone` replaces it."""

    def __init__(self) -> None:
        self.set_zone(Zone())

    def set_zone(self, zone: Zone) -> None:
        self._zone = zone
        self._reverse_names: dict[str, str] | None = None  # made when the first question comes

    def resolve(self, name: str) -> tuple[IPAddress, ...]:
        """Addresses of a full or short name, IPv4 first; empty for names that are not ours."""
        wanted = name.lower().rstrip(".")
        candidates = [wanted, *(f"{wanted}.{domain}" for domain in self._domains())] if wanted else []
        for candidate in candidates:
            found = self._zone.names.get(candidate)
            if found:
                return tuple(sorted(found, key=lambda address: address.version))
        return ()

    def name_of(self, address: IPAddress) -> str:
        """The full name of a tailnet address, or ""."""
        return self._reverse().get(address.reverse_pointer, "")

    def answer(self, data: bytes, *, over_udp: bool = True) -> bytes | None:
        """The response to a query message; None for what is not a query."""
        try:
            query = decode_query(data)
        except Malformed:
            return None
        code, records, zone = self._look_up(query)
        return encode_response(
            query, code, records, authority_zone=zone, negative_ttl_s=NEGATIVE_TTL_S, over_udp=over_udp
        )

    def _look_up(self, query: Query) -> tuple[ResponseCode, tuple[Record, ...], str]:
        name = query.name
        if name.endswith(".onion") or name == "onion":
            return ResponseCode.NAME_ERROR, (), ""
        if name.startswith(BONJOUR_PREFIXES):
            return ResponseCode.REFUSED, (), ""
        if name.endswith(REVERSE_SUFFIX) and (owner := self._reverse().get(name)) is not None:
            return ResponseCode.NO_ERROR, _pointer(query, owner), ""
        zone = self._zone_of(name)
        addresses = self._zone.names.get(name)
        if addresses is not None:
            if query.type in NOT_IMPLEMENTED_TYPES:
                return ResponseCode.NOT_IMPLEMENTED, (), ""
            records = self._records(query, addresses)
            return ResponseCode.NO_ERROR, records, "" if records else zone
        if zone:
            return ResponseCode.NAME_ERROR, (), zone
        return ResponseCode.REFUSED, (), ""

    def _reverse(self) -> Mapping[str, str]:
        if self._reverse_names is None:
            found: dict[str, str] = {}
            for name, addresses in self._zone.names.items():
                for address in addresses:
                    found.setdefault(address.reverse_pointer, name)
            found |= {SERVICE_IPV4.reverse_pointer: SERVICE_NAME, SERVICE_IPV6.reverse_pointer: SERVICE_NAME}
            self._reverse_names = found
        return self._reverse_names

    def _records(self, query: Query, addresses: Iterable[IPAddress]) -> tuple[Record, ...]:
        ordered = sorted(addresses, key=lambda address: address.version)
        has_ipv4 = bool(ordered) and ordered[0].version == 4
        if query.type == RecordType.ANY:
            ordered = ordered[:1]
        elif query.type == RecordType.AAAA:
            shows = self._zone.answers_ipv6 or not has_ipv4
            ordered = [address for address in ordered if address.version == 6 and shows]
        elif query.type == RecordType.A:
            ordered = [address for address in ordered if address.version == 4]
        else:
            return ()
        return tuple(
            Record(query.name, RecordType.A if ip.version == 4 else RecordType.AAAA, POSITIVE_TTL_S, str(ip))
            for ip in ordered
        )

    def _zone_of(self, name: str) -> str:
        zones = (self._zone.suffix, *REVERSE_ZONES) if self._zone.suffix else ()
        return next((zone for zone in zones if name == zone or name.endswith("." + zone)), "")

    def _domains(self) -> Iterable[str]:
        return dict.fromkeys((self._zone.suffix, *self._zone.search_domains)) if self._zone.suffix else ()


def _pointer(query: Query, name: str) -> tuple[Record, ...]:
    if query.type not in (RecordType.PTR, RecordType.ANY):
        return ()
    return (Record(query.name, RecordType.PTR, POSITIVE_TTL_S, name),)
