"""Devices through the REST API: upstream's paths, shapes and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.coord.conftest import Lab


async def test_devices_are_listed_and_found_by_either_id(lab: Lab) -> None:
    node = await lab.add_node("alpha", 1)
    await lab.add_node("beta", 2)
    tool = lab.tool()
    listed = (await tool.get("/api/v2/tailnet/-/devices")).json()["devices"]
    assert [device["hostname"] for device in listed] == ["alpha", "beta"]
    assert "advertisedRoutes" not in listed[0]
    for device_id in (str(node.id), node.stable_id):
        device = (await tool.get(f"/api/v2/device/{device_id}", params={"fields": "all"})).json()
        assert device["nodeId"] == node.stable_id
        assert device["advertisedRoutes"] == []
        assert device["addresses"] == [node.ipv4, node.ipv6]


@pytest.mark.parametrize("device_id", ["99", "n9CNTRL", "x", "9" * 30, "%00", "-1"])
async def test_unknown_devices_are_not_found(lab: Lab, device_id: str) -> None:
    answer = await lab.tool().get(f"/api/v2/device/{device_id}")
    assert answer.status_code == 404
    assert answer.json()["message"]


async def test_filters_must_all_hold(lab: Lab) -> None:
    await lab.add_node("alpha", 1)
    await lab.add_node("beta", 2)
    tool = lab.tool()
    for query, names in [
        ("hostname=alpha", ["alpha"]),
        ("hostname=alpha&isEphemeral=true", []),
        ("isEphemeral=false&os=linux", ["alpha", "beta"]),
        ("tags=tag:none", []),
        ("nonsense=1", []),
        ("clientConnectivity=1", []),
    ]:
        listed = (await tool.get(f"/api/v2/tailnet/-/devices?{query}")).json()["devices"]
        assert [device["hostname"] for device in listed] == names, query
    assert (await tool.get("/api/v2/tailnet/-/devices?fields=some")).status_code == 400


async def test_an_administrator_changes_a_device(lab: Lab) -> None:
    node = await lab.add_node()
    tool, base = lab.tool(), f"/api/v2/device/{node.id}"
    for path, body in [
        ("/authorized", {"authorized": False}),
        ("/name", {"name": "renamed"}),
        ("/tags", {"tags": ["tag:b", "tag:a"]}),
        ("/key", {"keyExpiryDisabled": True}),
        ("/ip", {"ipv4": "100.99.0.1"}),
    ]:
        answer = await tool.post(base + path, json=body)
        assert (answer.status_code, answer.json()) == (200, {}), path
    device = (await tool.get(base)).json()
    assert (device["authorized"], device["name"], device["tags"]) == (
        False,
        "renamed.tailnet.internal",
        ["tag:a", "tag:b"],
    )
    assert device["keyExpiryDisabled"] is True
    assert device["addresses"][0] == "100.99.0.1"
    assert (await tool.post(base + "/name", json={"name": ""})).status_code == 200
    assert (await tool.get(base)).json()["name"] == "alpha.tailnet.internal"


async def test_a_key_expires_now_and_a_device_can_be_removed(lab: Lab) -> None:
    node = await lab.add_node()
    tool, base = lab.tool(), f"/api/v2/device/{node.stable_id}"
    assert (await tool.post(base + "/expire")).status_code == 200
    assert not lab.coord.knows_node(node.node_key)
    assert (await tool.get(base)).json()["expires"] == "2023-11-14T22:13:20Z"
    assert (await tool.delete(base)).json() == {}
    assert (await tool.get(base)).status_code == 404
    assert (await tool.delete(base)).status_code == 404


async def test_routes_are_replaced_and_sorted_as_numbers(lab: Lab) -> None:
    node = await lab.add_node()
    tool, path = lab.tool(), f"/api/v2/device/{node.id}/routes"
    answer = await tool.post(path, json={"routes": ["10.0.1.0/24", "2.0.0.0/24", "1.2.0.0/16"]})
    assert answer.json() == {"advertisedRoutes": [], "enabledRoutes": ["1.2.0.0/16", "2.0.0.0/24", "10.0.1.0/24"]}
    assert (await tool.get(path)).json() == answer.json()
    assert (await tool.post(path, json={"routes": []})).json()["enabledRoutes"] == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/tags", {"tags": ["nonsense"]}, 400),
        ("/tags", {"tags": "tag:a"}, 400),
        ("/routes", {"routes": ["nonsense"]}, 400),
        ("/name", {"name": "beta"}, 409),
        ("/name", {"name": "!!!"}, 400),
        ("/ip", {"ipv4": "8.8.8.8"}, 400),
        ("/authorized", {"authorized": "yes"}, 400),
        ("/key", {}, 400),
    ],
)
async def test_bad_changes_are_refused_with_a_reason(lab: Lab, path: str, body: dict[str, object], status: int) -> None:
    node = await lab.add_node("alpha", 1)
    await lab.add_node("beta", 2)
    answer = await lab.tool().post(f"/api/v2/device/{node.id}{path}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]
