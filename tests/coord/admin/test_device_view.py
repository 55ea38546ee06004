"""Nodes as devices: upstream's members, times, routes and relays."""

from __future__ import annotations

import msgspec

from tailbox.coord.admin.device_view import ZERO_TIME, api_time, device_view, region_names, sorted_routes
from tailbox.coord.core.records import TailnetNode, User
from tailbox.coord.core.tailnet import Tailnet
from tailbox.wire.control.derp_map import DERPMap, DERPRegion
from tailbox.wire.control.node import Hostinfo, NetInfo
from tailbox.wire.keys import MachinePublicKey, NodePublicKey

ALICE = User(id=1, subject="alice", login_name="alice@example.com")
NODE = TailnetNode(
    id=7,
    stable_id="n00000007CNTRL",
    machine_key=MachinePublicKey(b"m" * 32),
    node_key=NodePublicKey(b"n" * 32),
    user_id=1,
    name="box",
    ipv4="100.64.0.7",
    ipv6="fd7a:115c:a1e0::7",
    hostinfo=Hostinfo(
        hostname="Box", os="linux", ipn_version="1.90.0", routable_ips=("10.0.1.0/24", "2.0.0.0/24"),
        distro="debian", distro_version="12",
        net_info=NetInfo(
            preferred_derp=900, derp_latency={"900-v4": 0.02, "900-v6": 0.01, "901-v4": 0.5},
            mapping_varies_by_dest_ip=False, working_udp=True,
        ),
    ),
    endpoints=("192.0.2.1:41641",),
    created_unix_s=1_700_000_000.5,
    last_seen_unix_s=1_700_000_100.0,
    key_expires_unix_s=1_700_086_400.0,
)  # fmt: skip
REGIONS = {900: "Home", 902: "Elsewhere"}
TAILNET = Tailnet.assemble(nodes=[NODE], users=[ALICE])


def shown(node: TailnetNode, *, is_complete: bool = False) -> dict[str, object]:
    view = msgspec.to_builtins(device_view(TAILNET.with_node(node), node, regions=REGIONS, is_complete=is_complete))
    assert isinstance(view, dict)
    return view


def test_a_device_has_the_upstream_members() -> None:
    device = shown(NODE)
    assert device["id"] == "7"
    assert device["nodeId"] == "n00000007CNTRL"
    assert list(device["addresses"]) == [  # type: ignore[call-overload]
        "100.64.0.7",
        "fd7a:115c:a1e0::7",
    ]
    assert (device["name"], device["hostname"], device["user"]) == (
        "box.tailnet.internal",
        "Box",
        "alice@example.com",
    )
    assert device["created"] == "2023-11-14T22:13:20Z"
    assert device["lastSeen"] == "2023-11-14T22:15:00Z"
    assert device["expires"] == "2023-11-15T22:13:20Z"
    assert (device["keyExpiryDisabled"], device["connectedToControl"]) == (False, False)
    assert not {"tags", "enabledRoutes", "advertisedRoutes", "clientConnectivity", "sshEnabled"} & set(device)


def test_all_fields_add_routes_connectivity_and_distribution() -> None:
    device = shown(NODE, is_complete=True)
    assert list(device["advertisedRoutes"]) == ["2.0.0.0/24", "10.0.1.0/24"]  # type: ignore[call-overload]
    connectivity = device["clientConnectivity"]
    assert isinstance(connectivity, dict)
    assert connectivity["derp"] == "Home"
    assert connectivity["mappingVariesByDestIP"] is False
    assert connectivity["latency"] == {"Home": {"latencyMs": 10.0, "preferred": True}, "901": {"latencyMs": 500.0}}
    assert set(connectivity["clientSupports"]) == {"hairPinning", "ipv6", "pcp", "pmp", "udp", "upnp"}
    assert device["distro"] == {"name": "debian", "version": "12", "codeName": ""}


def test_regions_go_by_name_else_code_else_number_and_none_by_the_name_of_another() -> None:
    regions = [
        DERPRegion(region_id=1, region_code="nyc", region_name="New York City"),
        DERPRegion(region_id=2, region_code="dfw"),
        DERPRegion(region_id=3),
        DERPRegion(region_id=4, region_name="Twin"),
        DERPRegion(region_id=5, region_name="Twin"),
    ]
    names = region_names(DERPMap(regions={region.region_id: region for region in regions}))
    assert list(names.values()) == ["New York City", "dfw", "3", "Twin (4)", "Twin (5)"]
    assert region_names(DERPMap()) == {}


def test_whatever_a_device_calls_a_region_is_shown() -> None:
    network = NetInfo(preferred_derp=7, derp_latency={"x-v4": 0.1, "99999999999": 0.1, "7": 0.2, "²": 1.0})
    node = msgspec.structs.replace(NODE, hostinfo=Hostinfo(net_info=network))
    connectivity = shown(node, is_complete=True)["clientConnectivity"]
    assert isinstance(connectivity, dict)
    assert connectivity["derp"] == "7"
    assert set(connectivity["latency"]) == {"x", "99999999999", "7", "²"}


def test_a_connected_device_has_no_last_seen_and_a_key_without_end_a_zero_time() -> None:
    device = shown(msgspec.structs.replace(NODE, is_online=True, key_expires_unix_s=None, tags=("tag:a",)))
    assert "lastSeen" not in device
    assert (device["expires"], device["keyExpiryDisabled"]) == (ZERO_TIME, True)
    assert list(device["tags"]) == ["tag:a"]  # type: ignore[call-overload]


def test_a_node_whose_user_is_gone_is_shown_without_one() -> None:
    assert shown(msgspec.structs.replace(NODE, user_id=99))["user"] == ""


def test_routes_sort_as_numbers_with_nonsense_last() -> None:
    routes = ("10.0.1.0/24", "nonsense", "::/0", "2.0.0.0/24", "1.2.0.0/16", "0.0.0.0/0")
    assert sorted_routes(routes) == ("0.0.0.0/0", "1.2.0.0/16", "2.0.0.0/24", "10.0.1.0/24", "::/0", "nonsense")


def test_times_are_whole_seconds_in_utc() -> None:
    assert api_time(0.9) == "1970-01-01T00:00:00Z"
