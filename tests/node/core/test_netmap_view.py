"""What engines are told: routes, reach, rules, names; bad entries cost themselves only."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from tailbox.node.core.engine import EngineView
from tailbox.node.core.netmap import NetmapReducer
from tailbox.node.core.netmap_view import ViewPreferences, engine_view
from tailbox.wire.control.json import convert
from tailbox.wire.control.map import MapResponse
from tailbox.wire.keys import NodePublicKey

NOW = 1_750_000_000.0


def node(number: int, **members: Any) -> dict[str, Any]:
    return {
        "ID": number,
        "Key": "nodekey:" + f"{number:064x}",
        "DiscoKey": "discokey:" + f"{number:064x}",
        "Name": f"n{number}.example.net.",
        "Addresses": [f"100.64.0.{number}/32", f"fd7a:115c:a1e0::{number}/128"],
        "HomeDERP": 900,
        **members,
    }


def view(*peers: dict[str, Any], self_members: dict[str, Any] | None = None, **preferences: Any) -> EngineView:
    reducer = NetmapReducer()
    whole = convert(MapResponse, {"Node": node(99, **(self_members or {})), "Peers": list(peers)})
    assert reducer.apply(whole, now_unix_s=NOW) is None
    assert reducer.netmap is not None
    return engine_view(reducer.netmap, ViewPreferences(**preferences), now_unix_s=NOW)


def key(number: int) -> NodePublicKey:
    return NodePublicKey.parse("nodekey:" + f"{number:064x}")


def carrier(found: EngineView, address: str) -> NodePublicKey | None:
    return found.dataplane.routes.peer_for(ip_address(address).packed)


def test_peers_have_routes_reach_and_names() -> None:
    found = view(node(1, Endpoints=["192.0.2.1:41641", "nonsense"]))
    assert carrier(found, "100.64.0.1") == key(1)
    assert [str(endpoint) for endpoint in found.reach[key(1)].endpoints] == ["192.0.2.1:41641"]
    assert found.reach[key(1)].home_region == 900
    assert found.zone.names["n1.example.net"] == (ip_address("100.64.0.1"), ip_address("fd7a:115c:a1e0::1"))
    assert found.zone.suffix == "example.net"
    assert found.dataplane.addresses[0] == ip_address("100.64.0.99")


def test_peers_without_disco_key_or_past_their_time_get_no_traffic() -> None:
    expired = node(2, KeyExpiry="2020-01-01T00:00:00Z")
    found = view(node(1, DiscoKey=None), expired, node(3))
    assert set(found.reach) == {key(3)}
    assert carrier(found, "100.64.0.2") is None
    assert not view(node(1), self_members={"KeyExpiry": "2020-01-01T00:00:00Z"}).reach


def test_subnet_routes_are_taken_when_wanted_and_default_routes_never() -> None:
    router = node(1, AllowedIPs=["100.64.0.1/32", "10.1.0.0/16", "0.0.0.0/0", "10.0.0.1/8"])
    assert carrier(view(router), "10.1.2.3") is None
    accepted = view(router, accept_routes=True)
    assert carrier(accepted, "10.1.2.3") == key(1)
    assert carrier(accepted, "8.8.8.8") is None


def test_only_approved_routes_are_served() -> None:
    approved = {"AllowedIPs": ["100.64.0.99/32", "10.1.0.0/16"]}
    found = view(self_members=approved, advertise_routes=("10.1.0.0/16", "10.2.0.0/16"))
    assert found.dataplane.served == ((bytes((10, 1, 0, 0)), bytes((10, 1, 255, 255))),)


def test_an_old_coordinators_home_relay_is_understood() -> None:
    old = node(1, DERP="127.3.3.40:7")
    del old["HomeDERP"]
    assert view(old).reach[key(1)].home_region == 7


def test_without_direct_paths_no_endpoints_are_tried() -> None:
    assert view(node(1, Endpoints=["192.0.2.1:1"]), always_relay=True).reach[key(1)].endpoints == ()


def test_of_two_peers_with_one_key_the_later_counts() -> None:
    twin = node(2, Key=node(1)["Key"])
    assert carrier(view(node(1), twin), "100.64.0.2") == key(1)
    assert carrier(view(node(1), twin), "100.64.0.1") is None


def test_jailed_peers_are_named() -> None:
    assert view(node(1, IsJailed=True)).dataplane.jailed == {key(1)}
