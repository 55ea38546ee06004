"""A relay on loopback, and a client that speaks to it with the core's own machine."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Self

import pytest

from tailbox.crypto.x25519 import generate, node_public
from tailbox.derp.admission import Admission
from tailbox.derp.app import DerpRole
from tailbox.derp.config import DerpConfig
from tailbox.derp.core.client import DerpClient, DerpEvent, HttpUpgrade, LoggedIn, PacketsReceived, Received
from tailbox.derp.core.login import ClientClaims
from tailbox.randomness import SeededRandom
from tailbox.runtime.network import HostNetwork
from tailbox.runtime.service import Address, Listen, RunningServer, serve
from tailbox.runtime.system import SystemClock, SystemRandom
from tailbox.wire.derp import Frame
from tailbox.wire.keys import NodePrivateKey, NodePublicKey

WAIT_S = 5.0


def private_key(seed: int | str) -> NodePrivateKey:
    return generate(NodePrivateKey, SeededRandom(seed))


class TcpClient:
    """One connection to a relay. Events gather in `events`; `wait` takes the first that fits."""

    def __init__(self, client: DerpClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.machine = client
        self.events: list[DerpEvent] = []
        self.reader = reader
        self.writer = writer
        self.raw = b""
        writer.write(client.data_to_send())

    @classmethod
    async def open(
        cls,
        port: int,
        key: NodePrivateKey,
        *,
        server_key: NodePublicKey | None = None,
        tls: ssl.SSLContext | None = None,
        claims: ClientClaims | None = None,
        ideal_node: str = "",
    ) -> Self:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=1024)
        machine = DerpClient(
            key,
            random=SystemRandom(),
            upgrade=HttpUpgrade("relay.test", ideal_node=ideal_node),
            server_key=server_key,
            claims=claims,
        )
        return cls(machine, reader, writer)

    async def log_in(self) -> Self:
        await self.wait(lambda event: isinstance(event, LoggedIn))
        return self

    def send(self, frame: Frame) -> None:
        self.writer.write(self.machine.send(frame))

    async def wait(self, fits: Callable[[DerpEvent], bool]) -> DerpEvent:
        async with asyncio.timeout(WAIT_S):
            while True:
                for index, event in enumerate(self.events):
                    if fits(event):
                        del self.events[: index + 1]
                        return event
                if not await self.read():
                    raise EOFError

    async def packets(self, count: int) -> list[tuple[NodePublicKey, bytes]]:
        """The next `count` packets with their sources."""
        found: list[tuple[NodePublicKey, bytes]] = []
        while len(found) < count:
            event = await self.wait(lambda event: isinstance(event, PacketsReceived))
            assert isinstance(event, PacketsReceived)
            found += [(event.source, packet) for packet in event.packets]
        return found

    async def frame(self, kind: type[Frame]) -> Frame:
        event = await self.wait(lambda event: isinstance(event, Received) and isinstance(event.frame, kind))
        assert isinstance(event, Received)
        return event.frame

    async def read(self) -> bool:
        data = await self.reader.read(65536)
        self.events += self.machine.receive_bytes(data)
        self.writer.write(self.machine.data_to_send())
        return bool(data)

    async def ends(self) -> None:
        """Wait for the relay to close the connection."""
        async with asyncio.timeout(WAIT_S):
            try:
                while await self.read():
                    pass
            except ConnectionError:
                pass

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass


@dataclass
class RunningRelay:
    """A relay and the clients that a test opened."""

    role: DerpRole
    running: RunningServer
    stack: AsyncExitStack

    @property
    def port(self) -> int:
        return self.running.address.port

    @property
    def key(self) -> NodePublicKey:
        return self.role.server.public_key

    async def eventually(self, holds: Callable[[], bool]) -> None:
        """Wait for something that the relay does on its own."""
        for _ in range(int(WAIT_S / 0.01)):
            if holds():
                return
            await asyncio.sleep(0.01)
        raise TimeoutError

    async def client(self, seed: int | str, **options: object) -> TcpClient:
        client = await self.connect(seed, **options)
        return await client.log_in()

    async def connect(self, seed: int | str, **options: object) -> TcpClient:
        client = await TcpClient.open(self.port, private_key(seed), **options)  # type: ignore[arg-type]
        self.stack.push_async_callback(client.close)
        return client


StartRelay = Callable[..., Awaitable[RunningRelay]]
QUIET = DerpConfig(stun_port=-1, rate_limit_bytes_per_s=0)


@pytest.fixture
async def start_relay() -> AsyncIterator[StartRelay]:
    """Start relays that end with the test: `await start_relay(admission=…, tls=…, keep_alive_s=…)`."""
    async with AsyncExitStack() as stack:

        async def start(
            *, admission: Admission | None = None, tls: ssl.SSLContext | None = None, **settings: object
        ) -> RunningRelay:
            config = replace(QUIET, **settings)  # type: ignore[arg-type]
            role = DerpRole(
                config,
                private_key("relay"),
                network=HostNetwork(),
                clock=SystemClock(),
                random=SystemRandom(),
                admission=admission,
            )
            running = await serve([role.service()], listen=[Listen(Address("127.0.0.1", 0), tls)])
            stack.push_async_callback(running.stop)
            return RunningRelay(role, running, stack)

        yield start


def public(seed: int | str) -> NodePublicKey:
    return node_public(private_key(seed))
