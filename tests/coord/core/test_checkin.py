"""What a MapRequest changes, and what it leaves alone (control reference §6.1)."""

from __future__ import annotations

from functools import partial

import pytest

from tailbox.coord.core.devices import rename_device
from tailbox.coord.core.hostinfo import MAX_ENDPOINTS, MAX_ROUTES
from tailbox.errors import NotFound
from tailbox.wire.control.map import MapRequest
from tailbox.wire.control.node import Hostinfo, NetInfo, Service
from tailbox.wire.keys import DiscoPublicKey
from tests.coord.core.world import World, key

DISCO, OTHER_DISCO = DiscoPublicKey(b"d" * 32), DiscoPublicKey(b"e" * 32)
HOME = Hostinfo(hostname="host", os="linux", net_info=NetInfo(preferred_derp=7))


def full_update() -> MapRequest:
    return MapRequest(
        version=140, node_key=key(1), disco_key=DISCO, endpoints=("192.0.2.1:1",), hostinfo=HOME, omit_peers=True
    )


def test_a_lite_update_is_stored(world: World) -> None:
    world.enrolled(1)
    assert world.check_in(1, full_update()) == 1
    node = world.node(1)
    assert (node.disco_key, node.endpoints, node.capability_version) == (DISCO, ("192.0.2.1:1",), 140)
    assert node.hostinfo == HOME
    assert world.change.nodes == {1}


def test_the_same_again_changes_nothing(world: World) -> None:
    world.enrolled(1)
    world.check_in(1, full_update())
    world.check_in(1, full_update())
    assert world.change.is_empty


def test_no_news_keeps_what_is_stored(world: World) -> None:
    # pitfall 35: zero disco key, absent NetInfo, PreferredDERP 0, absent endpoints
    world.enrolled(1)
    world.check_in(1, full_update())
    world.check_in(1, MapRequest(node_key=key(1), omit_peers=True))
    world.check_in(1, MapRequest(node_key=key(1), omit_peers=True, hostinfo=Hostinfo(hostname="host", os="linux")))
    no_home = Hostinfo(hostname="host", os="linux", net_info=NetInfo(preferred_derp=0))
    world.check_in(1, MapRequest(node_key=key(1), omit_peers=True, hostinfo=no_home))
    node = world.node(1)
    assert (node.disco_key, node.endpoints, node.capability_version) == (DISCO, ("192.0.2.1:1",), 140)
    assert node.hostinfo.net_info is not None
    assert node.hostinfo.net_info.preferred_derp == 7


def test_an_empty_list_of_endpoints_is_news(world: World) -> None:
    world.enrolled(1)
    world.check_in(1, full_update())
    world.check_in(1, MapRequest(node_key=key(1), omit_peers=True, endpoints=()))
    assert world.node(1).endpoints == ()


def test_a_stream_fills_only_what_is_unknown(world: World) -> None:
    world.enrolled(1)
    stream = MapRequest(
        version=141, node_key=key(1), stream=True, disco_key=OTHER_DISCO, endpoints=("192.0.2.9:9",),
        hostinfo=Hostinfo(hostname="x", net_info=NetInfo(preferred_derp=3)),
    )  # fmt: skip
    world.check_in(1, stream)
    fresh = world.node(1)
    assert (fresh.disco_key, fresh.endpoints) == (OTHER_DISCO, ("192.0.2.9:9",))
    assert fresh.hostinfo.net_info == NetInfo(preferred_derp=3)
    assert fresh.hostinfo.hostname == "host"
    world.check_in(1, full_update())
    world.check_in(1, stream)
    node = world.node(1)
    assert (node.disco_key, node.endpoints, node.capability_version) == (DISCO, ("192.0.2.1:1",), 141)
    assert node.hostinfo == HOME


def test_read_only_changes_nothing(world: World) -> None:
    before = world.enrolled(1)
    for stream in (True, False):
        world.check_in(1, MapRequest(version=9, node_key=key(1), read_only=True, stream=stream, disco_key=DISCO))
    assert world.node(1) == before


@pytest.mark.parametrize(("machine_number", "key_number"), [(2, 1), (1, 9)])
def test_unknown_keys_and_keys_of_other_machines_look_alike(world: World, machine_number: int, key_number: int) -> None:
    world.enrolled(1)
    with pytest.raises(NotFound, match="unknown node key"):
        world.check_in(machine_number, MapRequest(node_key=key(key_number), stream=True))


def test_a_new_hostname_renames_unless_the_name_was_given(world: World) -> None:
    world.enrolled(1)
    update = MapRequest(node_key=key(1), omit_peers=True, hostinfo=Hostinfo(hostname="Fresh Name"))
    world.check_in(1, update)
    assert world.node(1).name == "fresh-name"
    world.do(partial(rename_device, node_id=1, name="given"))
    world.check_in(1, MapRequest(node_key=key(1), omit_peers=True, hostinfo=Hostinfo(hostname="third")))
    assert world.node(1).name == "given"
    world.do(partial(rename_device, node_id=1, name=""))
    assert world.node(1).name == "third"


def test_what_peers_could_not_use_is_left_out(world: World) -> None:
    world.enrolled(1)
    endpoints = ("[fe80::1%eth0]:1", "[fe80::1]:1", "169.254.1.1:1", "224.0.0.1:1", "host:1", "1.2.3.4:0", "1.2.3.4:5")
    routes = ("10.0.0.1/24", "x", "10.0.0.0/24", "192.0.2.1")
    hostinfo = Hostinfo(
        hostname="h", routable_ips=routes, os="x" * 9999, tpm={"a": 1}, services=(Service(proto="tcp", port=70000),)
    )
    world.check_in(1, MapRequest(node_key=key(1), omit_peers=True, endpoints=endpoints, hostinfo=hostinfo))
    node = world.node(1)
    assert node.endpoints == ("1.2.3.4:5",)
    assert node.announced_routes == ("10.0.0.0/24", "192.0.2.1/32")
    assert len(node.hostinfo.os) == 512
    assert (node.hostinfo.tpm, node.hostinfo.services) == (None, ())


def test_lists_are_bounded(world: World) -> None:
    world.enrolled(1)
    endpoints = tuple(f"192.0.2.1:{port}" for port in range(1, 500))
    routes = tuple(f"10.{number >> 8}.{number & 255}.0/24" for number in range(1000))
    request = MapRequest(node_key=key(1), omit_peers=True, endpoints=endpoints, hostinfo=Hostinfo(routable_ips=routes))
    world.check_in(1, request)
    assert len(world.node(1).endpoints) == MAX_ENDPOINTS
    assert len(world.node(1).announced_routes) == MAX_ROUTES
