from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tailbox.paths.netcheck import NetcheckEffects, NetChecker, NetReport, StunProbe
from tailbox.randomness import SeededRandom
from tailbox.wire.addresses import Endpoint
from tailbox.wire.control.derp_map import DERPNode, DERPRegion
from tailbox.wire.stun import BindingResponse

MAPPED4, MAPPED6 = Endpoint.parse("192.0.2.10:4000"), Endpoint.parse("[2001:db8::10]:4000")


def region(region_id: int, *, no_measure_no_home: bool = False) -> DERPRegion:
    node = DERPNode(name=f"{region_id}a", region_id=region_id, host_name=f"r{region_id}.example")
    return DERPRegion(region_id=region_id, nodes=(node,), no_measure_no_home=no_measure_no_home)


def regions(*region_ids: int) -> dict[int, DERPRegion]:
    return {region_id: region(region_id) for region_id in region_ids}


Answer = tuple[float, Endpoint] | None


def run(
    checker: NetChecker, effects: NetcheckEffects, answer: Callable[[StunProbe], Answer], *, now: float = 0.0
) -> tuple[NetReport, list[StunProbe], float]:
    """Play a run to its end. `answer`: delay and mapped address, or None for silence."""
    pending: list[tuple[float, int, bytes]] = []
    sent: list[StunProbe] = []
    while True:
        for probe in effects.probes:
            sent.append(probe)
            if (found := answer(probe)) is not None:
                pending.append((now + found[0], len(sent), BindingResponse(probe.transaction_id, found[1]).encode()))
        if effects.report is not None:
            return effects.report, sent, now
        deadline = checker.next_deadline()
        assert deadline is not None
        pending.sort()
        if pending and pending[0][0] <= deadline.at:
            now, _, datagram = pending.pop(0)
            effects = checker.handle_stun(datagram, now=now)
        else:
            now = max(now, deadline.at)
            effects = checker.handle_deadline(now=now)


def mapped(probe: StunProbe) -> Endpoint:
    return MAPPED4 if probe.planned.ip_version == 4 else MAPPED6


def test_latencies_and_addresses_of_every_region_are_reported() -> None:
    checker = NetChecker(random=SeededRandom(1))
    effects = checker.start(regions(1, 2, 3), now=0.0)
    report, sent, _ = run(checker, effects, lambda probe: (0.01 * probe.planned.region_id, mapped(probe)))
    assert report.is_full
    assert report.udp
    assert report.ipv4
    assert report.ipv6
    assert {key: round(value, 3) for key, value in report.region_latency_s.items()} == {1: 0.01, 2: 0.02, 3: 0.03}
    assert report.global_endpoints == (MAPPED4, MAPPED6)
    assert report.mapping_varies_by_destination is False
    assert len(sent) == 6  # nothing is asked twice
    assert "HTTPS latency" in report.not_measured
    assert not checker.is_running


def test_a_hard_nat_shows_in_differing_addresses() -> None:
    checker = NetChecker(random=SeededRandom(1))
    effects = checker.start(regions(1, 2, 3), ip_versions=(4,), now=0.0)
    report, _, _ = run(checker, effects, lambda probe: (0.01, Endpoint(MAPPED4.ip, 5000 + probe.planned.region_id)))
    assert report.mapping_varies_by_destination is True
    assert report.global_endpoints == (Endpoint(MAPPED4.ip, 5001),)


def test_lost_requests_are_repeated() -> None:
    checker = NetChecker(random=SeededRandom(1))
    tries: list[StunProbe] = []

    def third_time_lucky(probe: StunProbe) -> Answer:
        tries.append(probe)
        return (0.01, mapped(probe)) if len(tries) == 3 else None

    report, sent, ended_at = run(checker, checker.start(regions(1), ip_versions=(4,), now=0.0), third_time_lucky)
    assert report.udp
    assert abs(report.region_latency_s[1] - 0.01) < 1e-9
    assert len(sent) == 3
    assert ended_at < 0.3


def test_silence_ends_after_three_seconds_without_udp() -> None:
    checker = NetChecker(random=SeededRandom(1))
    report, sent, ended_at = run(checker, checker.start(regions(1, 2), now=0.0), lambda probe: None)
    assert not report.udp
    assert report.region_latency_s == {}
    assert ended_at == 3.0
    assert len(sent) == 12


def test_one_silent_family_does_not_delay_the_report() -> None:
    checker = NetChecker(random=SeededRandom(1))
    effects = checker.start(regions(1), now=0.0)
    report, _, ended_at = run(
        checker, effects, lambda probe: (0.01, MAPPED4) if probe.planned.ip_version == 4 else None
    )
    assert report.ipv4
    assert not report.ipv6
    assert ended_at < 0.1


def test_without_regions_the_report_is_empty_and_immediate() -> None:
    effects = NetChecker(random=SeededRandom(1)).start({}, now=0.0)
    assert effects.report is not None
    assert not effects.report.udp


def test_names_that_lead_nowhere_end_the_run() -> None:
    checker = NetChecker(random=SeededRandom(1))
    effects = checker.start(regions(1), ip_versions=(4,), now=0.0)
    now = 0.0
    while effects.report is None:
        probes = effects.probes
        for probe in probes:
            effects = checker.note_unsendable(probe.transaction_id, now=now)
        if not probes or effects.report is None:
            deadline = checker.next_deadline()
            assert deadline is not None
            now = deadline.at
            effects = checker.handle_deadline(now=now)
    assert now < 1.0


def test_latency_counts_from_when_the_request_left() -> None:
    checker = NetChecker(random=SeededRandom(1))
    probe = checker.start(regions(1), ip_versions=(4,), now=0.0).probes[0]
    checker.note_sent(probe.transaction_id, now=0.05)
    effects = checker.handle_stun(BindingResponse(probe.transaction_id, MAPPED4).encode(), now=0.06)
    assert effects.report is not None
    assert abs(effects.report.region_latency_s[1] - 0.01) < 1e-9


def test_later_runs_ask_the_fastest_and_home_until_five_minutes_have_passed() -> None:
    checker = NetChecker(random=SeededRandom(1))
    many = regions(1, 2, 3, 4, 5)

    def by_region(probe: StunProbe) -> Answer:
        return 0.01 * probe.planned.region_id, mapped(probe)

    run(checker, checker.start(many, ip_versions=(4,), now=0.0), by_region)
    report, sent, _ = run(checker, checker.start(many, home_region=5, ip_versions=(4,), now=30.0), by_region, now=30.0)
    assert not report.is_full
    assert {probe.planned.region_id for probe in sent} <= {1, 2, 3, 5}
    later = checker.start(many, ip_versions=(4,), now=400.0)
    report, _, _ = run(checker, later, by_region, now=400.0)
    assert report.is_full


def test_regions_not_to_be_measured_are_left_alone() -> None:
    checker = NetChecker(random=SeededRandom(1))
    effects = checker.start({1: region(1), 2: region(2, no_measure_no_home=True)}, now=0.0)
    assert {probe.planned.region_id for probe in effects.probes} == {1}


@given(st.binary(max_size=80))
def test_strange_stun_is_counted(data: bytes) -> None:
    checker = NetChecker(random=SeededRandom(1))
    checker.start(regions(1), now=0.0)
    assert checker.handle_stun(data, now=0.1) == NetcheckEffects()
    assert checker.strays == 1
