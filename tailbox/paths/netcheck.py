"""What kind of network are we in: STUN requests to the relays of every region, and what the answers mean.

One run at a time. The owner sends the probes (looking up names where the map has no address), feeds answers back, and
gets one report. The first run and one in five minutes measure every region; the others the three fastest and home.
HTTPS and ICMP latency, captive portals and port mappings are not measured here; the report says so. Source: paths.md
§2; tailscale net/netcheck/netcheck.go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tailbox.clock import Deadline
from tailbox.errors import WireError
from tailbox.paths.probe_plan import PlannedProbe, plan_all, plan_fastest
from tailbox.randomness import RandomSource
from tailbox.wire.addresses import Endpoint
from tailbox.wire.control.derp_map import DERPRegion
from tailbox.wire.stun import TRANSACTION_BYTES, BindingRequest, BindingResponse

STUN_PHASE_S = 3.0  # netcheck.go stunProbeTimeout
FULL_EVERY_S = 300.0  # netcheck.go: other reports are incremental
ENOUGH_REGIONS = 3  # netcheck.go enoughRegions
LEAST_GRACE_S = 0.05  # ours: what slower answers get at least, once enough regions have answered
NOT_MEASURED = ("HTTPS latency", "ICMP latency", "captive portal", "port mapping")


@dataclass(frozen=True, slots=True)
class StunProbe:
    """A request to send."""

    transaction_id: bytes
    planned: PlannedProbe
    datagram: bytes


@dataclass(frozen=True, slots=True)
class NetReport:
    """The answer to one run. Latencies in seconds, by region; only regions that answered are in it."""

    is_full: bool
    udp: bool = False  # some answer came by UDP
    ipv4: bool = False
    ipv6: bool = False
    ipv4_can_send: bool = False
    ipv6_can_send: bool = False
    mapping_varies_by_destination: bool | None = None  # None: it takes answers of two servers to know
    global_ipv4: Endpoint | None = None
    global_ipv6: Endpoint | None = None
    global_endpoints: tuple[Endpoint, ...] = ()  # those worth telling peers
    mapped_seen: Mapping[Endpoint, int] = field(default_factory=dict)  # every mapped address, and how often
    region_latency_s: Mapping[int, float] = field(default_factory=dict)
    region_ipv4_latency_s: Mapping[int, float] = field(default_factory=dict)
    region_ipv6_latency_s: Mapping[int, float] = field(default_factory=dict)
    not_measured: tuple[str, ...] = NOT_MEASURED


@dataclass(frozen=True, slots=True)
class NetcheckEffects:
    """Probes to send now, and the report once the run is over."""

    probes: tuple[StunProbe, ...] = ()
    report: NetReport | None = None


NOTHING = NetcheckEffects()


@dataclass(slots=True)
class _InFlight:
    planned: PlannedProbe
    sent_at: float


class _Run:
    """What is known so far."""

    def __init__(self, plan: Sequence[PlannedProbe], *, is_full: bool, now: float) -> None:
        self.started_at = now
        self.is_full = is_full
        self.ends_at = now + STUN_PHASE_S
        self.scheduled = sorted(plan, key=lambda probe: probe.delay_s)
        self.in_flight: dict[bytes, _InFlight] = {}
        self.regions = {probe.region_id for probe in plan}
        self.answered: set[tuple[int, int]] = set()  # region and family: sets that need no more probes
        self.latency_s: dict[int, dict[int, float]] = {4: {}, 6: {}}
        self.mapped: Counter[Endpoint] = Counter()
        self.first_ipv4: Endpoint | None = None
        self.latest_ipv6: Endpoint | None = None
        self.varies: bool | None = None
        self.sent_families: set[int] = set()

    def helps(self, probe: PlannedProbe) -> bool:
        """Whether its answer would tell anything new."""
        key = (probe.region_id, probe.ip_version)
        if key in self.answered:
            return False
        has_latency = any(probe.region_id in by_region for by_region in self.latency_s.values())
        if not has_latency:
            return True
        return self.latest_ipv6 is None if probe.ip_version == 6 else self.varies is None

    def take_answer(self, probe: PlannedProbe, latency_s: float, mapped: Endpoint) -> None:
        family = self.latency_s[probe.ip_version]
        family[probe.region_id] = min(latency_s, family.get(probe.region_id, latency_s))
        self.answered.add((probe.region_id, probe.ip_version))
        self.mapped[mapped] += 1
        if mapped.ip.version == 6:
            self.latest_ipv6 = mapped
        elif self.first_ipv4 is None:
            self.first_ipv4 = mapped
        elif mapped != self.first_ipv4:
            self.varies = True
        elif self.varies is None:
            self.varies = False

    def region_latency_s(self) -> dict[int, float]:
        merged = dict(self.latency_s[4])
        for region_id, latency_s in self.latency_s[6].items():
            merged[region_id] = min(latency_s, merged.get(region_id, latency_s))
        return merged


class NetChecker:
    """Runs netchecks, one after another."""

    def __init__(self, *, random: RandomSource) -> None:
        self._random = random
        self._run: _Run | None = None
        self._full_at = float("-inf")
        self._last_latency_s: dict[int, float] = {}
        self._ipv6_has_worked = True
        self.strays = 0  # STUN messages that answer nothing we asked

    @property
    def is_running(self) -> bool:
        return self._run is not None

    def start(
        self,
        regions: Mapping[int, DERPRegion],
        *,
        home_region: int = 0,
        ip_versions: Sequence[int] = (4, 6),
        full: bool = False,
        now: float,
    ) -> NetcheckEffects:
        """Begin a run; one under way is given up. `ip_versions`: of which we have sockets and addresses."""
        is_full = full or not self._last_latency_s or now - self._full_at >= FULL_EVERY_S
        if is_full:
            plan = plan_all(regions, ip_versions=ip_versions)
            self._full_at = now
        else:
            plan = plan_fastest(
                regions,
                self._last_latency_s,
                home_region=home_region,
                ip_versions=ip_versions,
                ipv6_has_worked=self._ipv6_has_worked,
            )
        self._run = _Run(plan, is_full=is_full, now=now)
        return self._advance(now)

    def note_sent(self, transaction_id: bytes, *, now: float) -> None:
        """A probe left only now, since its name had to be looked up: latency counts from here."""
        if self._run is not None and (probe := self._run.in_flight.get(transaction_id)) is not None:
            probe.sent_at = now

    def note_unsendable(self, transaction_id: bytes, *, now: float) -> NetcheckEffects:
        """A probe had nowhere to go: no such name, no address of the family."""
        if self._run is None or self._run.in_flight.pop(transaction_id, None) is None:
            return NOTHING
        return self._advance(now)

    def handle_stun(self, datagram: bytes, *, now: float) -> NetcheckEffects:
        """A STUN message. Only the transaction tells what it answers; strangers' are counted and ignored."""
        try:
            response = BindingResponse.decode(datagram)
        except WireError:
            self.strays += 1
            return NOTHING
        run = self._run
        probe = run.in_flight.pop(response.transaction_id, None) if run is not None else None
        if run is None or probe is None:
            self.strays += 1
            return NOTHING
        run.take_answer(probe.planned, max(0.0, now - probe.sent_at), response.mapped)
        latencies = run.region_latency_s()
        if len(latencies) >= min(ENOUGH_REGIONS, len(run.regions)):
            grace_s = max(LEAST_GRACE_S, max(latencies.values()) * (2 if run.is_full else 1))
            run.ends_at = min(run.ends_at, now + grace_s)
        return self._advance(now)

    def next_deadline(self) -> Deadline | None:
        run = self._run
        if run is None:
            return None
        if run.scheduled and run.started_at + run.scheduled[0].delay_s < run.ends_at:
            return Deadline(run.started_at + run.scheduled[0].delay_s, "STUN probe")
        return Deadline(run.ends_at, "STUN answers")

    def handle_deadline(self, *, now: float) -> NetcheckEffects:
        return self._advance(now) if self._run is not None else NOTHING

    def _advance(self, now: float) -> NetcheckEffects:
        """Send what is due and useful; report when time is up or nothing is awaited."""
        run = self._run
        assert run is not None
        if now >= run.ends_at:
            return self._finish(run)
        probes: list[StunProbe] = []
        run.scheduled = [probe for probe in run.scheduled if run.helps(probe)]
        while run.scheduled and run.started_at + run.scheduled[0].delay_s <= now:
            planned = run.scheduled.pop(0)
            transaction_id = self._random.bytes(TRANSACTION_BYTES)
            run.in_flight[transaction_id] = _InFlight(planned, now)
            run.sent_families.add(planned.ip_version)
            probes.append(StunProbe(transaction_id, planned, BindingRequest(transaction_id).encode()))
        awaited = any(run.helps(probe.planned) for probe in run.in_flight.values())
        if not run.scheduled and not awaited:
            return NetcheckEffects(tuple(probes), self._finish(run).report)
        return NetcheckEffects(tuple(probes))

    def _finish(self, run: _Run) -> NetcheckEffects:
        self._run = None
        latencies = run.region_latency_s()
        self._last_latency_s = {**({} if run.is_full else self._last_latency_s), **latencies}
        if 6 in run.sent_families:
            self._ipv6_has_worked = bool(run.latency_s[6])
        report = NetReport(
            is_full=run.is_full,
            udp=bool(latencies),
            ipv4=bool(run.latency_s[4]),
            ipv6=bool(run.latency_s[6]),
            ipv4_can_send=4 in run.sent_families,
            ipv6_can_send=6 in run.sent_families,
            mapping_varies_by_destination=run.varies,
            global_ipv4=run.first_ipv4,
            global_ipv6=run.latest_ipv6,
            global_endpoints=_worth_telling(run),
            mapped_seen=dict(run.mapped),
            region_latency_s=latencies,
            region_ipv4_latency_s=dict(run.latency_s[4]),
            region_ipv6_latency_s=dict(run.latency_s[6]),
        )
        return NetcheckEffects(report=report)


def _worth_telling(run: _Run) -> tuple[Endpoint, ...]:
    """First IPv4, latest IPv6, and others seen more than once: single ones are the noise of a hard NAT."""
    repeated = [endpoint for endpoint, count in run.mapped.items() if count > 1]
    chosen = [endpoint for endpoint in (run.first_ipv4, run.latest_ipv6) if endpoint is not None]
    return tuple(dict.fromkeys(chosen + repeated))
