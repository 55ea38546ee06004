"""A tailnet on one machine for node tests: a coordinator reduced to what nodes hear, and a real relay beside it."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tailbox.coord.machine.noise_endpoint import NoiseEndpoint
from tailbox.crypto.x25519 import generate
from tailbox.derp.app import DerpRole
from tailbox.derp.config import DerpConfig
from tailbox.node.node import Node
from tailbox.randomness import SeededRandom
from tailbox.runtime.network import HostNetwork
from tailbox.runtime.service import Address, Listen, RunningServer, Service, serve
from tailbox.runtime.system import SystemClock, SystemRandom
from tailbox.wire.control.framing import encode_frame
from tailbox.wire.keys import MachinePrivateKey, NodePrivateKey

REGION = 900
AUTH_KEY = "tskey-auth-good"
ALLOW_ALL = [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]}]


class Coordinator:
    """Takes everybody who knows AUTH_KEY (others get a sign-in address), and sends whole maps."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}  # by node key
        self.requests: list[dict[str, Any]] = []
        self.approved = asyncio.Event()
        self.rules: list[dict[str, Any]] = ALLOW_ALL
        self.refusal = ""
        self.expired_keys: set[str] = set()
        self.ping_request: dict[str, Any] | None = None
        self.ping_answers: list[bytes] = []
        self.relay: Address | None = None
        self.stun_port = -1
        self.map_status = 200
        self._changed = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/machine/register", self.register, methods=["POST"]),
                Route("/machine/map", self.map, methods=["POST"]),
                Route("/machine/answer", self.answer, methods=["POST"]),
            ]
        )

    def notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def register(self, request: Request) -> Response:
        wanted = json.loads(await request.body())
        self.requests.append(wanted)
        key = wanted["NodeKey"]
        if self.refusal:
            return JSONResponse({"Error": self.refusal})
        if key in self.expired_keys:
            return JSONResponse({"NodeKeyExpired": True})
        if str(wanted.get("Expiry", "")).startswith("1970"):
            self.nodes.pop(key, None)
            self.notify()
            return JSONResponse({})
        if wanted.get("Followup"):
            await self.approved.wait()
        elif key not in self.nodes and (wanted.get("Auth") or {}).get("AuthKey") != AUTH_KEY:
            return JSONResponse({"AuthURL": "http://127.0.0.1/register/xyz"})
        old = self.nodes.pop(wanted.get("OldNodeKey", ""), None)
        number = old["ID"] if old else self.nodes[key]["ID"] if key in self.nodes else len(self.nodes) + 1
        self.nodes[key] = self._node(number, key, wanted["Hostinfo"])
        self.notify()
        return JSONResponse({"MachineAuthorized": True})

    def _node(self, number: int, key: str, hostinfo: dict[str, Any]) -> dict[str, Any]:
        name = f"{hostinfo['Hostname'].lower()}.example.net."
        addresses = [f"100.64.0.{number}/32", f"fd7a:115c:a1e0::{number}/128"]
        fixed = {"User": 1, "MachineAuthorized": True, "Online": True, "Endpoints": []}
        return {"ID": number, "StableID": str(number), "Name": name, "Key": key, "Addresses": addresses, **fixed}

    async def map(self, request: Request) -> Response:
        wanted = json.loads(await request.body())
        self.requests.append(wanted)
        node = self.nodes.get(wanted["NodeKey"])
        if node is None or self.map_status != 200:
            return Response(status_code=404 if node is None else self.map_status)
        node["DiscoKey"] = wanted.get("DiscoKey") or node.get("DiscoKey")
        if not wanted.get("Stream"):
            node["Endpoints"] = wanted.get("Endpoints") or []
            net_info = (wanted.get("Hostinfo") or {}).get("NetInfo") or {}
            node["HomeDERP"] = net_info.get("PreferredDERP") or node.get("HomeDERP", 0)
            self.notify()
            return Response()
        self.notify()
        return StreamingResponse(self._stream(wanted["NodeKey"]))

    async def _stream(self, key: str) -> AsyncIterator[bytes]:
        while key in self.nodes:
            changed = self._changed
            yield encode_frame(json.dumps(self._map_of(key)).encode(), compress=True)
            await changed.wait()

    def _map_of(self, key: str) -> dict[str, Any]:
        peers = [node for other, node in self.nodes.items() if other != key and node.get("DiscoKey")]
        message: dict[str, Any] = {
            "Node": self.nodes[key],
            "Domain": "example.net",
            "DERPMap": {"Regions": self._regions()},
            "DNSConfig": {"Proxied": True, "Domains": ["example.net"]},
            "UserProfiles": [{"ID": 1, "LoginName": "user@example.net", "DisplayName": "User"}],
            "PacketFilter": self.rules,
        }
        message |= {"Peers": peers} if peers else {}
        return message | ({"PingRequest": self.ping_request} if self.ping_request else {})

    def _regions(self) -> dict[str, Any]:
        if self.relay is None:
            return {}
        relay = {"Name": "900a", "RegionID": REGION, "HostName": self.relay.host, "DERPPort": self.relay.port}
        relay |= {"STUNPort": self.stun_port, "TailboxPlainHTTP": True, "IPv4": self.relay.host, "IPv6": "none"}
        return {str(REGION): {"RegionID": REGION, "RegionCode": "test", "RegionName": "Test", "Nodes": [relay]}}

    async def answer(self, request: Request) -> Response:
        self.ping_answers.append(await request.body())
        return Response()


class Tailnet:
    """Coordinator, relay, and nodes that join them."""

    def __init__(
        self, coordinator: Coordinator, control: NoiseEndpoint, server: RunningServer, stack: AsyncExitStack
    ) -> None:
        self.coordinator = coordinator
        self.control = control
        self.server = server
        self._stack = stack
        self.url = f"http://127.0.0.1:{server.address.port}"

    async def node(self, hostname: str, **settings: Any) -> Node:
        """A node that is up."""
        node = await self.starting_node(hostname, **{"auth_key": AUTH_KEY, **settings})
        await node.wait_running(20)
        return node

    async def starting_node(self, hostname: str, **settings: Any) -> Node:
        node = Node(login_server=self.url, hostname=hostname, include_loopback=True, **settings)
        return await self._stack.enter_async_context(node)


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running_tailnet() -> AsyncIterator[Tailnet]:
    coordinator, stun_port = Coordinator(), free_udp_port()
    random, clock, network = SystemRandom(), SystemClock(), HostNetwork()
    endpoint = NoiseEndpoint(MachinePrivateKey(b"\x11" * 32), coordinator.app, random=random, clock=clock)
    role = DerpRole(
        DerpConfig(
            stun_port=stun_port,
            home_page="none",
            rate_limit_bytes_per_s=0,
            accepts_per_s=0,
            accepts_per_address_per_s=0,
        ),
        generate(NodePrivateKey, SeededRandom("relay")),
        network=network,
        clock=clock,
        random=random,
    )
    control = Service("coord", routes=endpoint.routes, upgrades=endpoint.upgrades)
    here = [Listen(Address("127.0.0.1", 0))]
    async with await serve([role.service()], listen=here) as relay, await serve([control], listen=here) as server:
        coordinator.relay = relay.address
        coordinator.stun_port = stun_port
        async with AsyncExitStack() as stack:
            yield Tailnet(coordinator, endpoint, server, stack)
        coordinator.nodes.clear()
        coordinator.notify()


@pytest.fixture
def make_tailnet() -> Callable[[], AbstractAsyncContextManager[Tailnet]]:
    """For tests that run a loop of their own."""
    return running_tailnet


@pytest.fixture
async def tailnet() -> AsyncIterator[Tailnet]:
    async with running_tailnet() as found:
        yield found


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], Any]:
    """Wait until a condition holds, at most ten seconds."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  # conditions are about many objects, not one event
                await asyncio.sleep(0.02)

    return wait


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose sockets have short names."""
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as directory:
        yield Path(directory)
