"""Auth keys and API tokens through the REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.coord.conftest import Lab

KEYS = "/api/v2/tailnet/-/keys"


async def test_an_auth_key_is_shown_once_and_round_trips(lab: Lab) -> None:
    create = {"reusable": True, "ephemeral": True, "preauthorized": False, "tags": ["tag:ci"]}
    body = {"capabilities": {"devices": {"create": create}}, "expirySeconds": 3600, "description": "for CI"}
    tool = lab.tool()
    made = (await tool.post(KEYS, json=body)).json()
    assert made["key"].startswith(f"tskey-auth-{made['id']}-")
    assert made["capabilities"]["devices"]["create"] == create
    assert (made["created"], made["expires"]) == ("2023-11-14T22:13:20Z", "2023-11-14T23:13:20Z")
    again = (await tool.get(f"{KEYS}/{made['id']}")).json()
    assert again == {name: value for name, value in made.items() if name != "key"}
    listed = (await tool.get(KEYS, params={"all": "true"})).json()["keys"]
    assert again in listed
    assert not any("key" in key for key in listed)


async def test_defaults_are_ninety_days_and_no_rights(lab: Lab) -> None:
    made = (await lab.tool().post(KEYS, json={})).json()
    assert made["expirySeconds"] == 7_776_000
    create = made["capabilities"]["devices"]["create"]
    assert create == {"reusable": False, "ephemeral": False, "preauthorized": False}
    assert "tags" not in made


async def test_a_deleted_key_stays_readable_and_is_invalid(lab: Lab) -> None:
    tool = lab.tool()
    made = (await tool.post(KEYS, json={})).json()
    assert (await tool.delete(f"{KEYS}/{made['id']}")).json() == {}
    gone = (await tool.get(f"{KEYS}/{made['id']}")).json()
    assert gone["invalid"] is True
    assert gone["revoked"] == "2023-11-14T22:13:20Z"
    assert (await tool.delete(f"{KEYS}/kNothing")).status_code == 404


async def test_an_api_token_speaks_for_its_maker_until_it_is_revoked(lab: Lab) -> None:
    tool = lab.tool()
    made = (await tool.post(KEYS, json={"keyType": "api", "expirySeconds": 86400})).json()
    assert made["keyType"] == "api"
    assert made["key"].startswith("tskey-api-")
    mine = lab.browser(Authorization=f"Bearer {made['key']}")
    assert (await mine.get("/api/v2/whoami")).json()["credential"] == "token"
    await tool.delete(f"{KEYS}/{made['id']}")
    assert (await mine.get("/api/v2/whoami")).status_code == 401


async def test_an_api_token_ends_by_itself(lab: Lab) -> None:
    made = (await lab.tool().post(KEYS, json={"keyType": "api", "expirySeconds": 86400})).json()
    lab.clock.advance(86400)
    assert (await lab.browser(Authorization=f"Bearer {made['key']}").get("/api/v2/whoami")).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {"expirySeconds": 7_776_001},
        {"expirySeconds": -1},
        {"expirySeconds": "3600"},
        {"keyType": "api", "expirySeconds": 86399},
        {"keyType": "api", "capabilities": {"devices": {"create": {}}}},
        {"keyType": "client"},
        {"description": "x" * 51},
        {"description": "<script>"},
        {"capabilities": {"devices": {"create": {"tags": ["nonsense"]}}}},
        {"capabilities": {"devices": {"create": {"reusable": 1}}}},
        {"capabilities": {"devices": {"steal": {}}}},
    ],
)
async def test_bad_keys_are_refused_with_a_reason(lab: Lab, body: dict[str, object]) -> None:
    answer = await lab.tool().post(KEYS, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"]
