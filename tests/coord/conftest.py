"""A coordinator on a clock that the test moves, reached without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from tailbox.clock import ManualClock
from tailbox.coord.app import Coord, open_coord
from tailbox.coord.config import CoordConfig, EmbeddedRelay
from tailbox.coord.core.records import TailnetNode
from tailbox.coord.core.registration import Registrar
from tailbox.randomness import SeededRandom
from tailbox.wire.control.node import Hostinfo
from tailbox.wire.control.registration import RegisterAuth, RegisterRequest
from tailbox.wire.keys import MachinePublicKey, NodePublicKey

SERVER_URL = "http://box.example:8080"


@dataclass
class Lab:
    """The coordinator, its clock, and browsers and tools that talk to it."""

    coord: Coord
    clock: ManualClock
    directory: Path
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    @property
    def token(self) -> str:
        return (self.directory / "admin-token").read_text().strip()

    def browser(self, **headers: str) -> httpx.AsyncClient:
        """A client without credentials, with a cookie jar."""
        app = Starlette(routes=list(self.coord.service.routes))
        transport = httpx.ASGITransport(app=app, client=("192.0.2.9", 4711))
        client = httpx.AsyncClient(transport=transport, base_url=SERVER_URL, headers=headers)
        self.clients.append(client)
        return client

    def tool(self) -> httpx.AsyncClient:
        """A client with the administrator's token."""
        return self.browser(Authorization=f"Bearer {self.token}")

    async def add_node(self, name: str = "alpha", number: int = 1, **request: object) -> TailnetNode:
        """Register a node by auth key, as its control client would."""
        key = await self.coord.create_auth_key()
        wanted = RegisterRequest(
            version=113,
            node_key=NodePublicKey(bytes([number]) * 32),
            auth=RegisterAuth(auth_key=key),
            hostinfo=Hostinfo(hostname=name, os="linux"),
            **request,  # type: ignore[arg-type]  # members of the request
        )
        machine_key = MachinePublicKey(bytes([100 + number]) * 32)
        registrar = Registrar(SeededRandom(number), lambda login_id: login_id)
        answer = await self.coord.coordinator.apply(
            lambda tailnet, now: registrar.register(tailnet, now, request=wanted, machine_key=machine_key)
        )
        assert not answer.response.error
        node = self.coord.coordinator.tailnet.node_by_key(wanted.node_key)
        assert node is not None
        return node

    async def begin_login(self, name: str = "laptop", number: int = 50) -> str:
        """Register without a key; returns the id of the pending login."""
        wanted = RegisterRequest(
            version=113, node_key=NodePublicKey(bytes([number]) * 32), hostinfo=Hostinfo(hostname=name, os="linux")
        )
        registrar = Registrar(SeededRandom(number), lambda login_id: login_id)
        answer = await self.coord.coordinator.apply(
            lambda tailnet, now: registrar.register(
                tailnet, now, request=wanted, machine_key=MachinePublicKey(bytes([100 + number]) * 32)
            )
        )
        return answer.response.auth_url


@pytest.fixture
def config(tmp_path: Path) -> CoordConfig:
    relay = EmbeddedRelay(host="192.0.2.1", derp_port=8443)
    return CoordConfig(state_directory=tmp_path / "coord", server_url=SERVER_URL, tailnet_name="lab", relay=relay)


@pytest.fixture
async def lab(config: CoordConfig) -> AsyncIterator[Lab]:
    clock = ManualClock()
    coord = await open_coord(config, clock=clock, random=SeededRandom("coord"))
    assert coord.service.lifespan is not None
    async with coord.service.lifespan():
        running = Lab(coord, clock, config.state_directory)
        yield running
        for client in running.clients:
            await client.aclose()
