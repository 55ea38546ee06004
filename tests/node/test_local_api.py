"""LocalAPI over a real unix socket: shapes, refusals, the bus, metrics."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tailbox.errors import ConfigError
from tailbox.node.core.status import BackendState
from tailbox.node.node import Node

if TYPE_CHECKING:
    from tests.node.conftest import Tailnet

Eventually = Callable[[Callable[[], bool]], Any]
PREFIX = "http://local-tailscaled.sock/localapi/v0/"


@asynccontextmanager
async def client_of(socket: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with httpx.AsyncClient(transport=transport, base_url=PREFIX, timeout=10) as client:
        yield client


async def next_of(lines: AsyncIterator[str], member: str) -> Any:
    """The next value of this member that is told on the bus."""
    async with asyncio.timeout(10):
        async for line in lines:
            if (found := json.loads(line).get(member)) is not None:
                return found
    raise AssertionError("the bus ended")


@pytest.fixture
async def socket(tailnet: Tailnet, short_path: Path) -> Path:
    return short_path / "s"


@pytest.fixture
async def alpha(tailnet: Tailnet, socket: Path) -> Node:
    await tailnet.node("beta")
    return await tailnet.node("alpha", socket=socket)


async def test_status_prefs_and_the_rest_of_the_minimal_set(alpha: Node, socket: Path, eventually: Eventually) -> None:
    await eventually(lambda: alpha.status().peer("beta") is not None)
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600  # noqa: ASYNC240
    async with client_of(socket) as client:
        answer = await client.get("status")
        status = answer.json()
        assert answer.headers["tailscale-version"]
        assert status["BackendState"] == "Running"
        assert [peer["HostName"] for peer in status["Peer"].values()] == ["beta"]
        assert (await client.get("status", params={"peers": "false"})).json()["Peer"] is None
        prefs = (await client.get("prefs")).json()
        assert prefs["WantRunning"] is True
        assert prefs["Config"] is None
        assert (await client.get("whois", params={"addr": "100.64.0.1:9"})).json()["Node"][
            "Name"
        ] == "beta.example.net."
        assert (await client.get("whois", params={"addr": "100.64.0.99"})).status_code == 404
        ping = (await client.post("ping", params={"ip": "100.64.0.1", "type": "disco"})).json()
        assert ping["Err"] == ""
        assert (await client.post("ping", params={"ip": "100.64.0.1", "type": "peerapi"})).status_code == 400
        assert "900" in (await client.get("derpmap")).json()["Regions"]
        assert (await client.get("netcheck")).json()["UDP"] is True
        for name in ("serve-config", "check-ip-forwarding", "services", "profiles/", "profiles/current", "dns-config"):
            assert (await client.get(name)).status_code == 200, name
        assert (await client.post("check-prefs", content=b"{}")).json() == {}
        assert (await client.post("debug", params={"action": "current-netmap"})).json()["Domain"] == "example.net"
        assert (await client.post("debug", params={"action": "restun"})).text == "done\n"
        assert (await client.post("debug", params={"action": "rebind"})).text == "done\n"
        assert (await client.post("debug", params={"action": "x"})).status_code == 400
        assert (await client.put("profiles/")).status_code == 400
        assert "tailscaled_home_derp_region_id 900" in (await client.get("usermetrics")).text
        assert (await client.get("http://local-tailscaled.sock/")).text == "tailscaled\n"
        assert (await client.get("http://local-tailscaled.sock/healthz")).json()["services"]["node"][
            "state"
        ] == "Running"


@pytest.mark.parametrize(
    "headers", [{"Referer": "http://evil/"}, {"Origin": "null"}, {"Host": "localhost"}, {"Host": "evil.example"}]
)
async def test_browsers_are_refused(alpha: Node, socket: Path, headers: dict[str, str]) -> None:
    async with client_of(socket) as client:
        assert (await client.get("status", headers=headers)).status_code == 403


async def test_preferences_change_while_running(alpha: Node, socket: Path) -> None:
    async with client_of(socket) as client:
        changed = await client.patch(
            "prefs", json={"Hostname": "gamma", "HostnameSet": True, "Unknown": 1, "WantRunning": False}
        )
        assert changed.json()["Hostname"] == "gamma"
        assert changed.json()["WantRunning"] is True
        shields = await client.patch("prefs", json={"ShieldsUp": True, "ShieldsUpSet": True})
        assert shields.json()["ShieldsUp"] is True
        for bad in (b"[]", b"nonsense", b'{"AdvertiseRoutes": ["10.0.0.1/8"], "AdvertiseRoutesSet": true}',
                    b'{"RunSSH": true, "RunSSHSet": true}', b'{"Hostname": 5, "HostnameSet": true}',
                    b'{"AdvertiseTags": "x", "AdvertiseTagsSet": true}'):  # fmt: skip
            answer = await client.patch("prefs", content=bad)
            assert answer.status_code == 400
            assert answer.json()["error"]


async def test_down_up_and_logout_are_told_on_the_bus(alpha: Node, socket: Path, eventually: Eventually) -> None:
    states: list[int] = []

    async def watch() -> None:
        async with client_of(socket) as client, client.stream("GET", "watch-ipn-bus", params={"mask": 6}) as bus:
            async for line in bus.aiter_lines():
                notify = json.loads(line)
                if notify["State"] is not None:
                    states.append(notify["State"])
                if states[-3:] == [4, 6, 2] or (len(states) > 3 and states[-1] == 2):
                    return

    watching = asyncio.create_task(watch())
    async with client_of(socket) as client:
        await asyncio.sleep(0.2)
        await client.patch("prefs", json={"WantRunning": False, "WantRunningSet": True})
        assert (await client.get("status")).json()["BackendState"] == "Stopped"
        await client.patch("prefs", json={"WantRunning": True, "WantRunningSet": True})
        await alpha.wait_running(10)
        assert (await client.post("logout")).status_code == 204
        assert (await client.get("status")).json()["BackendState"] == "NeedsLogin"
        await asyncio.wait_for(watching, 10)
        assert states[0] == int(BackendState.RUNNING)
        assert {4, 2} <= set(states)
        assert (await client.post("start", json={"AuthKey": "tskey-auth-good"})).status_code == 204
        await alpha.wait_running(10)
        key = alpha.status().key
        assert (await client.post("login-interactive")).status_code == 204
        await eventually(lambda: alpha.status().key != key and 900 in alpha._running().underlay.connected_regions)
        other = {"UpdatePrefs": {"ControlURL": "http://elsewhere"}}
        assert (await client.post("start", json=other)).status_code == 400


async def test_up_hears_on_the_bus_that_all_is_well_or_why_it_is_not(
    alpha: Node, socket: Path, tailnet: Tailnet
) -> None:
    """`tailscale up` waits for the state to become Running after its POST, and for a new key with --force-reauth."""
    async with client_of(socket) as client, client.stream("GET", "watch-ipn-bus", params={"mask": 0}) as bus:
        lines = bus.aiter_lines()
        await anext(lines)
        old_key = alpha.status().key
        assert (await client.post("start", json={"AuthKey": "tskey-auth-good"})).status_code == 204
        assert await next_of(lines, "State") == int(BackendState.RUNNING)
        assert (await client.post("login-interactive")).status_code == 204
        assert (await next_of(lines, "NetMap"))["NodeKey"] == alpha.status().key.text != old_key.text
        await client.post("logout")
        tailnet.coordinator.refusal = "invalid key: it was revoked"
        assert (await client.post("start", json={"AuthKey": "tskey-auth-bad"})).status_code == 204
        assert await next_of(lines, "ErrMessage") == "invalid key: it was revoked"
        tailnet.coordinator.refusal = ""
        assert (await client.post("start", json={})).status_code == 204
        assert (await client.post("login-interactive")).status_code == 204
        assert await next_of(lines, "BrowseToURL") == "http://127.0.0.1/register/xyz"


async def test_a_watcher_that_leaves_leaves_nothing_behind(alpha: Node, socket: Path, eventually: Eventually) -> None:
    async with client_of(socket) as client, client.stream("GET", "watch-ipn-bus", params={"mask": 0}) as bus:
        await anext(bus.aiter_lines())
    api = alpha._local_api
    assert api is not None
    await eventually(lambda: api._watchers == 0)
    waiting = [task for task in asyncio.all_tasks() if "Subscription.__anext__" in repr(task)]
    assert waiting == []


async def test_a_watcher_first_hears_how_things_are(alpha: Node, socket: Path) -> None:
    async with client_of(socket) as client, client.stream("GET", "watch-ipn-bus", params={"mask": 16398}) as bus:
        first = json.loads(await anext(bus.aiter_lines()))
    assert first["State"] == 6
    assert first["Prefs"]["Hostname"] == "alpha"
    assert first["NetMap"]["SelfNode"]["Name"] == "alpha.example.net."
    assert first["InitialStatus"]["BackendState"] == "Running"
    assert first["ErrMessage"] is None


async def test_a_socket_name_that_is_too_long_is_said_so(tailnet: Tailnet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="longer than 107 bytes"):
        await tailnet.starting_node("alpha", socket=tmp_path / ("x" * 120))


async def test_metrics_may_have_an_address_of_their_own(tailnet: Tailnet) -> None:
    node = await tailnet.node("alpha", metrics_listen="127.0.0.1:0")
    assert node._local_api is not None
    url = node._local_api._servers[0].url
    async with httpx.AsyncClient() as client:
        assert "tailbox_state 6.0" in (await client.get(f"{url}/metrics")).text
        assert (await client.get(f"{url}/healthz")).status_code == 200
        assert (await client.get(f"{url}/localapi/v0/status")).status_code == 404
