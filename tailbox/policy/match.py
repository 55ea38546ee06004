"""Rules × flow → verdict: what a node does with the filter its coordinator sends.

Rules only allow; their order means nothing. A bad entry is skipped and reported, the rest applies; the old `SrcBits`
and `Bits` void the whole filter. Source: tailscale wgengine/filter/{tailcfg,match}.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tailbox.errors import Malformed
from tailbox.policy.address_set import EVERY_IPV4, EVERY_IPV6, AddressSet, PackedRange, parse_ranges
from tailbox.wire.control.filter import FilterRule

DEFAULT_PROTOCOLS = frozenset({6, 17, 1, 58})  # TCP, UDP, ICMP, ICMPv6: what an empty IPProto means
ANY_PORT = (0, 65535)
CAPABILITY_PREFIX = "cap:"

CapabilityHolders = Callable[[str], Iterable[bytes]]  # capability → packed addresses of the nodes that have it


def nobody(capability: str) -> Iterable[bytes]:
    """CapabilityHolders for a tailnet in which no node has any."""
    return ()


@dataclass(frozen=True, slots=True)
class PortRule:
    """Sources that may reach destinations and ports."""

    protocols: frozenset[int]
    sources: AddressSet
    destinations: tuple[tuple[AddressSet, int, int], ...]  # addresses, first port, last port

    def reaches(self, destination: bytes, port: int) -> bool:
        return any(first <= port <= last and destination in ips for ips, first, last in self.destinations)

    def reaches_address(self, destination: bytes) -> bool:
        return any(destination in ips for ips, _, _ in self.destinations)

    def reaches_every_port(self, destination: bytes) -> bool:
        return any((first, last) == ANY_PORT and destination in ips for ips, first, last in self.destinations)


@dataclass(frozen=True, slots=True)
class GrantRule:
    """Capabilities that sources have towards destinations; passes no traffic."""

    sources: AddressSet
    destinations: AddressSet
    capabilities: Mapping[str, Sequence[object]]


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """The rules of one node, ready to be asked. Addresses are packed bytes."""

    ports: tuple[PortRule, ...] = ()
    grants: tuple[GrantRule, ...] = ()
    problems: tuple[str, ...] = ()  # entries that were skipped, for a health warning

    def allows(self, protocol: int, source: bytes, destination: bytes, port: int) -> bool:
        """For protocols with ports."""
        return any(
            protocol in rule.protocols and source in rule.sources and rule.reaches(destination, port)
            for rule in self.ports
        )

    def allows_address(self, source: bytes, destination: bytes) -> bool:
        """For ICMP: any rule that opens anything of the destination, whatever its protocol."""
        return any(source in rule.sources and rule.reaches_address(destination) for rule in self.ports)

    def allows_protocol(self, protocol: int, source: bytes, destination: bytes) -> bool:
        """For protocols without ports: a rule naming the protocol, with every port."""
        return any(
            protocol in rule.protocols and source in rule.sources and rule.reaches_every_port(destination)
            for rule in self.ports
        )

    def capabilities(self, source: bytes, destination: bytes) -> dict[str, list[object]]:
        """What a source may do at a destination beyond packets, for whois and PeerAPI."""
        found: dict[str, list[object]] = {}
        for grant in self.grants:
            if source in grant.sources and destination in grant.destinations:
                for name, values in grant.capabilities.items():
                    found.setdefault(name, []).extend(values)
        return found


NOTHING_ALLOWED = CompiledFilter()


def compile_filter(rules: Iterable[FilterRule], *, holders: CapabilityHolders = nobody) -> CompiledFilter:
    """Make rules ready for asking. Never raises: what is wrong is listed in `problems`."""
    ports: list[PortRule] = []
    grants: list[GrantRule] = []
    problems: list[str] = []
    for rule in rules:
        if rule.src_bits or any(item.bits is not None for item in rule.dst_ports or ()):
            return CompiledFilter(problems=("SrcBits or Bits present: nothing is allowed",))
        sources = AddressSet(_sources(rule.src_ips or (), holders, problems))
        destinations = _destinations(rule, problems)
        protocols = frozenset(number for number in rule.ip_proto or () if 0 <= number <= 255)
        if destinations and (protocols or not rule.ip_proto):
            ports.append(PortRule(protocols or DEFAULT_PROTOCOLS, sources, destinations))
        for grant in rule.cap_grant or ():
            targets = AddressSet(_ranges([str(network) for network in grant.dsts or ()], problems))
            capabilities: dict[str, Sequence[object]] = dict.fromkeys(grant.caps or (), ())
            capabilities |= {name: values or () for name, values in (grant.cap_map or {}).items()}
            grants.append(GrantRule(sources, targets, capabilities))
    return CompiledFilter(tuple(ports), tuple(grants), tuple(problems))


def _destinations(rule: FilterRule, problems: list[str]) -> tuple[tuple[AddressSet, int, int], ...]:
    found = []
    for item in rule.dst_ports or ():
        ranges = _ranges([item.ip], problems)
        if ranges and 0 <= item.ports.first <= item.ports.last <= 65535:
            found.append((AddressSet(ranges), item.ports.first, item.ports.last))
        elif ranges:
            problems.append(f"port range {item.ports.first}-{item.ports.last}")
    return tuple(found)


def _sources(texts: Iterable[str], holders: CapabilityHolders, problems: list[str]) -> list[PackedRange]:
    ranges: list[PackedRange] = []
    for text in texts:
        if text.startswith(CAPABILITY_PREFIX):
            ranges += [(address, address) for address in holders(text.removeprefix(CAPABILITY_PREFIX))]
        else:
            ranges += _ranges([text], problems)
    return ranges


def _ranges(texts: Iterable[str], problems: list[str]) -> list[PackedRange]:
    ranges: list[PackedRange] = []
    for text in texts:
        try:
            ranges += parse_ranges(text)
        except Malformed as error:
            problems.append(str(error))
    return ranges


EVERYWHERE = AddressSet((EVERY_IPV4, EVERY_IPV6))
