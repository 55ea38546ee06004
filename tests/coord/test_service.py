"""The role on a real port: our own control client joins through the Noise channel, and streams end in time."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tailbox.coord.app import open_coord
from tailbox.coord.config import CoordConfig
from tailbox.coord.machine import map_streams
from tailbox.node.control_client import ControlClient
from tailbox.randomness import SeededRandom
from tailbox.runtime.network import HostNetwork
from tailbox.runtime.service import Address, Listen, serve
from tailbox.wire.control.framing import FrameDecoder
from tailbox.wire.control.json import encode
from tailbox.wire.control.map import MapRequest
from tailbox.wire.control.registration import RegisterAuth, RegisterRequest
from tailbox.wire.keys import MachinePrivateKey, NodePublicKey

NODE = NodePublicKey(b"n" * 32)


@pytest.mark.parametrize("use_websocket", [False, True])
async def test_a_node_joins_and_hears_of_changes_until_the_server_stops(
    config: CoordConfig, monkeypatch: pytest.MonkeyPatch, use_websocket: bool
) -> None:
    monkeypatch.setattr(map_streams, "COALESCE_S", 0.01)
    coord = await open_coord(config)
    server = await serve([coord.service], listen=[Listen(Address("127.0.0.1", 0))])
    control = ControlClient(
        server.url, MachinePrivateKey(b"m" * 32), version=113, network=HostNetwork(),
        random=SeededRandom("client"), use_websocket=use_websocket,
    )  # fmt: skip
    async with server, control, httpx.AsyncClient(base_url=server.url, trust_env=False) as browser:
        await control.connect()
        auth = RegisterAuth(auth_key=await coord.create_auth_key())
        wanted = RegisterRequest(version=113, node_key=NODE, auth=auth)
        registered = await control.request("POST", "/machine/register", encode(wanted))
        assert json.loads(registered.body)["Error"] == ""
        poll = MapRequest(version=113, node_key=NODE, stream=True, keep_alive=True, compress="zstd")
        async with await control.stream("POST", "/machine/map", encode(poll)) as stream:
            decoder = FrameDecoder(compressed=True)
            [first] = decoder.feed(await stream.read())
            assert json.loads(first)["Node"]["ID"] == 1
            headers = {"Authorization": f"Bearer {(config.state_directory / 'admin-token').read_text().strip()}"}
            await browser.post("/api/v2/device/1/name", json={"name": "renamed"}, headers=headers)
            [delta] = decoder.feed(await stream.read())
            assert json.loads(delta)["Node"]["Name"] == "renamed.tailnet.internal."
            health = (await browser.get("/healthz")).json()
            coord_health = {"status": "ok", "nodes": 1, "map_streams": 1, "relay_regions": 1, "can_store": True}
            assert health["services"]["coord"] == coord_health
            assert "tailbox_map_streams 1.0" in (await browser.get("/metrics")).text
            async with asyncio.timeout(3):
                await server.stop()
    later = await open_coord(config)
    node = later.coordinator.tailnet.node(1)
    await later.close()
    assert (node.name, node.is_online) == ("renamed", False)
