"""Runs netchecks on the underlay's sockets: now and then, and whenever somebody asks.

Requests during a run are merged into one more. Runs repeat every 20 to 26 s while the node is in use, since NATs
forget. Source: paths.md §2.5.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import UnsetType

from tailbox.clock import Clock, Deadline, earliest
from tailbox.errors import WireError
from tailbox.node.underlay import Underlay
from tailbox.paths.home_relay import HomeRelay
from tailbox.paths.netcheck import NetcheckEffects, NetChecker, NetReport, StunProbe
from tailbox.paths.own_endpoints import OwnEndpoint, OwnEndpoints
from tailbox.randomness import RandomSource
from tailbox.runtime.deadline_timer import DeadlineTimer
from tailbox.runtime.network import Network
from tailbox.runtime.supervisor import Supervisor
from tailbox.wire.addresses import Endpoint, parse_ip
from tailbox.wire.control.derp_map import DERPMap, DERPRegion

REPEAT_AFTER_S = (20.0, 26.0)  # magicsock.go: random, so that NATs that forget after 30 s do not


@dataclass(frozen=True, slots=True)
class NetcheckResult:
    """What a run found."""

    report: NetReport
    home_region: int
    endpoints: tuple[OwnEndpoint, ...]


class NetcheckRunner:
    """One per node. `on_result` is called after every run."""

    def __init__(
        self,
        network: Network,
        clock: Clock,
        underlay: Underlay,
        supervisor: Supervisor,
        *,
        random: RandomSource,
        on_result: Callable[[NetcheckResult], None],
        is_in_use: Callable[[], bool] = lambda: True,
        fixed_port: int = 0,
    ) -> None:
        """`is_in_use`: whether runs should repeat. `fixed_port`: the UDP port if it was configured."""
        self._network = network
        self._clock = clock
        self._underlay = underlay
        self._supervisor = supervisor
        self._random = random
        self._on_result = on_result
        self._is_in_use = is_in_use
        self._fixed_port = fixed_port
        self._checker = NetChecker(random=random)
        self._home = HomeRelay(random=random)
        self._own = OwnEndpoints()
        self._regions: dict[int, DERPRegion] = {}
        self._scores: dict[int, float] = {}
        self._asked_again: bool | None = None  # whether a full run is to follow; None: no run
        self._started_at = 0.0
        self._repeat: Deadline | None = None
        self._names: dict[tuple[str, int], str] = {}
        self._is_closed = False
        self._timer = DeadlineTimer(asyncio.get_running_loop(), clock, self._on_deadline)
        self.last_result: NetcheckResult | None = None

    def set_derp_map(self, derp_map: DERPMap | None) -> None:
        """Whom to ask; starts a full run if that changed."""
        regions = {} if derp_map is None else derp_map.regions
        if isinstance(regions, UnsetType):
            return
        scores = derp_map.home_params.region_score if derp_map is not None and derp_map.home_params else {}
        self._scores = {} if isinstance(scores, UnsetType) else dict(scores)
        if dict(regions) != self._regions:
            self._regions = dict(regions)
            self.request(full=True)

    def request(self, *, full: bool = False) -> None:
        """Run now, or once more after the run under way."""
        if self._is_closed:
            return
        if self._checker.is_running:
            self._asked_again = full or bool(self._asked_again)
            return
        self._start(full)

    def network_changed(self) -> None:
        """Forget old addresses and look again."""
        self._own.forget()
        self._names.clear()
        self.request(full=True)

    def heard_relay(self, region_id: int) -> None:
        """A relay of this region sent something: it is alive, whatever STUN says."""
        self._home.heard(region_id, now=self._clock.monotonic())

    def handle_stun(self, datagram: bytes) -> None:
        """A STUN message that came in on a UDP socket."""
        self._perform(self._checker.handle_stun(datagram, now=self._clock.monotonic()))

    def close(self) -> None:
        self._is_closed = True
        self._timer.close()

    def _start(self, full: bool) -> None:
        self._asked_again = None
        self._started_at = now = self._clock.monotonic()
        versions = (4, 6) if self._underlay.has_ipv6 else (4,)
        home = self._home.region_id
        self._perform(self._checker.start(self._regions, home_region=home, ip_versions=versions, full=full, now=now))

    def _on_deadline(self) -> None:
        now = self._clock.monotonic()
        if self._repeat is not None and now >= self._repeat.at:
            self._schedule_repeat(now)
            if self._is_in_use():
                self.request()
        self._perform(self._checker.handle_deadline(now=now))

    def _perform(self, effects: NetcheckEffects) -> None:
        for probe in effects.probes:
            self._send(probe)
        if effects.report is not None:
            self._finish(effects.report)
        self._timer.arm(earliest((self._checker.next_deadline(), self._repeat)))

    def _finish(self, report: NetReport) -> None:
        now = self._clock.monotonic()
        eligible = frozenset(key for key, region in self._regions.items() if not region.no_measure_no_home)
        home = self._home.choose(
            report.region_latency_s, eligible=eligible, scores=self._scores, started_at=self._started_at, now=now
        )
        own = self._own.update(self._underlay.local_endpoints(), report, fixed_port=self._fixed_port, now=now)
        self._schedule_repeat(now)
        self.last_result = NetcheckResult(report, home, own)
        self._on_result(self.last_result)
        if self._asked_again is not None and not self._checker.is_running:
            self._start(self._asked_again)

    def _schedule_repeat(self, now: float) -> None:
        self._repeat = Deadline(now + self._random.uniform(*REPEAT_AFTER_S), "netcheck")

    def _send(self, probe: StunProbe) -> None:
        planned = probe.planned
        known = self._names.get((planned.host, planned.ip_version))
        try:
            endpoint = Endpoint(parse_ip(known or planned.host), planned.port)
        except WireError:  # a name
            self._supervisor.run_once(f"resolve {planned.host}", lambda: self._resolve_and_send(probe))
        else:
            self._send_to(endpoint, probe)

    async def _resolve_and_send(self, probe: StunProbe) -> None:
        planned = probe.planned
        family = socket.AF_INET6 if planned.ip_version == 6 else socket.AF_INET
        found = await self._network.resolve(planned.host, family)
        if self._is_closed:
            return
        now = self._clock.monotonic()
        if not found:
            self._perform(self._checker.note_unsendable(probe.transaction_id, now=now))
            return
        self._names[planned.host, planned.ip_version] = found[0]
        self._checker.note_sent(probe.transaction_id, now=now)
        self._send_to(Endpoint(parse_ip(found[0]), planned.port), probe)

    def _send_to(self, endpoint: Endpoint, probe: StunProbe) -> None:
        if not self._underlay.send_datagram(endpoint, probe.datagram):
            self._perform(self._checker.note_unsendable(probe.transaction_id, now=self._clock.monotonic()))
