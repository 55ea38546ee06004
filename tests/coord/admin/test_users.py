"""Users, the caller, settings and the audit log through the REST API."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tailbox.coord.core import api_tokens, users
from tailbox.coord.core.records import Role

if TYPE_CHECKING:
    from tests.coord.conftest import Lab

SPAN = {"start": "2023-01-01T00:00:00Z", "end": "2024-01-01T00:00:00Z"}


async def token_of(lab: Lab, role: Role) -> tuple[int, str]:
    coordinator = lab.coord.coordinator
    user = await coordinator.apply(partial(users.create_user, login_name=f"a-{role.value}", role=role))
    made = await coordinator.apply(partial(api_tokens.create_api_token, user_id=user.id, random=coordinator.random))
    return user.id, made.text


async def test_users_are_listed_with_their_devices(lab: Lab) -> None:
    await lab.add_node()
    [user] = (await lab.tool().get("/api/v2/tailnet/-/users")).json()["users"]
    assert (user["loginName"], user["role"], user["deviceCount"], user["type"]) == ("admin", "owner", 1, "member")
    assert (await lab.tool().get(f"/api/v2/users/{user['id']}")).json() == user
    for unknown in ("99", "x", "9" * 30):
        assert (await lab.tool().get(f"/api/v2/users/{unknown}")).status_code == 404


async def test_the_caller_learns_what_a_console_needs(lab: Lab) -> None:
    me = (await lab.tool().get("/api/v2/whoami")).json()
    assert (me["tailnet"], me["baseDomain"], me["credential"]) == ("lab", "tailnet.internal", "token")
    assert "csrfToken" not in me


@pytest.mark.parametrize(
    ("role", "read", "key", "routes"),
    [
        (Role.ADMIN, 200, 200, 200),
        (Role.IT_ADMIN, 200, 200, 403),
        (Role.NETWORK_ADMIN, 200, 403, 200),
        (Role.AUDITOR, 200, 403, 403),
        (Role.MEMBER, 403, 403, 403),
    ],
)
async def test_roles_decide_what_a_token_may_do(lab: Lab, role: Role, read: int, key: int, routes: int) -> None:
    node = await lab.add_node()
    _, token = await token_of(lab, role)
    tool = lab.browser(Authorization=f"Bearer {token}")
    assert (await tool.get("/api/v2/tailnet/-/devices")).status_code == read
    assert (await tool.post("/api/v2/tailnet/-/keys", json={})).status_code == key
    assert (await tool.post(f"/api/v2/device/{node.id}/routes", json={"routes": []})).status_code == routes
    assert (await tool.get("/api/v2/whoami")).status_code == 200


async def test_a_suspended_user_is_nobody(lab: Lab) -> None:
    user_id, token = await token_of(lab, Role.ADMIN)
    await lab.coord.coordinator.apply(partial(users.suspend_user, user_id=user_id))
    assert (await lab.browser(Authorization=f"Bearer {token}").get("/api/v2/whoami")).status_code == 401


async def test_settings_change_in_part(lab: Lab) -> None:
    tool, path = lab.tool(), "/api/v2/tailnet/-/settings"
    assert (await tool.get(path)).json()["devicesKeyDurationDays"] == 180
    changed = await tool.patch(path, json={"devicesApprovalOn": True, "devicesKeyDurationDays": None})
    assert (changed.json()["devicesApprovalOn"], changed.json()["devicesKeyDurationDays"]) == (True, 180)
    assert (await tool.patch(path, json={"devicesKeyDurationDays": 181})).status_code == 400
    assert (await tool.patch(path, json={"httpsEnabled": True})).status_code == 400


async def test_the_audit_log_says_who_did_what(lab: Lab) -> None:
    node = await lab.add_node()
    await lab.tool().post(f"/api/v2/device/{node.id}/name", json={"name": "renamed"})
    log = (await lab.tool().get("/api/v2/tailnet/-/logging/configuration", params=SPAN)).json()
    assert (log["version"], log["tailnet"], log["tailnetId"]) == ("1.1", "lab", "lab")
    last = log["logs"][-1]
    assert (last["target"]["type"], last["action"], last["target"]["property"]) == ("NODE", "UPDATE", "MACHINE_NAME")
    assert (last["actor"]["loginName"], last["origin"]) == ("admin", "CONFIG_API")
    assert last["new"]["nodes"]["1"]["name"] == "renamed"
    assert last["eventGroupID"]
    assert "secret_hash" not in str(log)
    early = {"start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"}
    assert (await lab.tool().get("/api/v2/tailnet/-/logging/configuration", params=early)).json()["logs"] == []
    assert (await lab.tool().get("/api/v2/tailnet/-/logging/configuration")).status_code == 400
