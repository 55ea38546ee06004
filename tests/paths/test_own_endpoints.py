from __future__ import annotations

from tailbox.paths.netcheck import NetReport
from tailbox.paths.own_endpoints import EndpointKind, OwnEndpoint, OwnEndpoints
from tailbox.wire.addresses import Endpoint

LOCAL = Endpoint.parse("10.0.0.1:41641")
MAPPED = Endpoint.parse("192.0.2.1:5000")


def report(*mapped: Endpoint, varies: bool | None = None) -> NetReport:
    return NetReport(
        is_full=True,
        global_ipv4=mapped[0] if mapped else None,
        global_endpoints=mapped,
        mapping_varies_by_destination=varies,
    )


def test_mapped_addresses_come_before_local_ones() -> None:
    found = OwnEndpoints().update([LOCAL], report(MAPPED), now=0.0)
    assert found == (OwnEndpoint(MAPPED, EndpointKind.STUN), OwnEndpoint(LOCAL, EndpointKind.LOCAL))


def test_an_address_found_twice_is_told_once() -> None:
    found = OwnEndpoints().update([MAPPED], report(MAPPED), now=0.0)
    assert found == (OwnEndpoint(MAPPED, EndpointKind.STUN),)


def test_behind_a_hard_nat_a_configured_port_is_guessed() -> None:
    own = OwnEndpoints()
    guessed = OwnEndpoint(Endpoint(MAPPED.ip, 41641), EndpointKind.STUN4_LOCAL_PORT)
    assert guessed in own.update([LOCAL], report(MAPPED, varies=True), fixed_port=41641, now=0.0)
    assert guessed not in own.update([LOCAL], report(MAPPED, varies=False), fixed_port=41641, now=1.0)
    assert guessed not in own.update([LOCAL], report(MAPPED, varies=True), now=2.0)


def test_mapped_addresses_survive_short_flaps() -> None:
    own = OwnEndpoints()
    own.update([LOCAL], report(MAPPED), now=0.0)
    assert OwnEndpoint(MAPPED, EndpointKind.STUN) in own.update([LOCAL], report(), now=300.0)
    assert own.update([LOCAL], report(), now=311.0) == (OwnEndpoint(LOCAL, EndpointKind.LOCAL),)


def test_few_ports_are_remembered_of_one_address() -> None:
    own = OwnEndpoints()
    for port in range(1, 30):
        own.update([], report(Endpoint(MAPPED.ip, port)), now=float(port))
    assert len(own.update([], None, now=30.0)) == 6


def test_a_changed_network_forgets() -> None:
    own = OwnEndpoints()
    own.update([LOCAL], report(MAPPED), now=0.0)
    own.forget()
    assert own.update([LOCAL], None, now=1.0) == (OwnEndpoint(LOCAL, EndpointKind.LOCAL),)
