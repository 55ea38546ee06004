"""Netchecks over real sockets, against our own STUN responder on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tailbox.derp.stun_responder import StunResponder
from tailbox.node import netcheck_runner
from tailbox.node.netcheck_runner import NetcheckResult, NetcheckRunner
from tailbox.node.underlay import Underlay
from tailbox.paths.own_endpoints import EndpointKind
from tailbox.paths.path import Path
from tailbox.runtime.network import HostNetwork
from tailbox.runtime.supervisor import Supervisor
from tailbox.runtime.system import SystemClock, SystemRandom
from tailbox.wire.addresses import Endpoint
from tailbox.wire.control.derp_map import DERPMap, DERPNode, DERPRegion
from tailbox.wire.keys import NodePublicKey
from tailbox.wire.train import Train


class World:
    """A node's sockets, its netcheck, and a STUN server."""

    def __init__(self) -> None:
        self.results: list[NetcheckResult] = []
        self._arrived = asyncio.Event()
        self.supervisor = Supervisor()
        self.stun = StunResponder(HostNetwork(), port=0)
        self.stun.start()
        clock, random = SystemClock(), SystemRandom()
        self.underlay = Underlay(HostNetwork(), clock, self._on_train, random=random, include_loopback=True)
        self.runner = NetcheckRunner(
            HostNetwork(), clock, self.underlay, self.supervisor, random=random, on_result=self._on_result
        )

    def _on_train(self, train: Train, path: Path, peer: NodePublicKey | None) -> None:
        self.runner.handle_stun(bytes(train.data))

    def _on_result(self, result: NetcheckResult) -> None:
        self.results.append(result)
        self._arrived.set()

    async def result(self, count: int = 1) -> NetcheckResult:
        async with asyncio.timeout(20):
            while len(self.results) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.results[count - 1]

    def map_of(self, *hosts: str) -> DERPMap:
        port = self.stun.ports[0]
        return DERPMap(
            regions={
                number: DERPRegion(
                    region_id=number,
                    nodes=(DERPNode(name=f"{number}a", region_id=number, host_name=host, stun_port=port),),
                )
                for number, host in enumerate(hosts, 1)
            }
        )


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        made = World()
        stack.callback(made.stun.close)
        stack.push_async_callback(made.supervisor.close)
        stack.push_async_callback(made.underlay.close)
        stack.callback(made.runner.close)
        await made.underlay.start()
        yield made


async def test_a_map_starts_a_run_that_finds_our_address_and_home(world: World) -> None:
    world.runner.set_derp_map(world.map_of("127.0.0.1"))
    result = await world.result()
    own = Endpoint.parse(f"127.0.0.1:{world.underlay.port}")
    assert result.report.udp
    assert result.report.global_ipv4 == own
    assert result.home_region == 1
    assert result.endpoints[0].endpoint == own
    assert result.endpoints[0].kind is EndpointKind.STUN
    assert {found.endpoint for found in result.endpoints} >= set(world.underlay.local_endpoints())


async def test_names_are_looked_up(world: World) -> None:
    world.runner.set_derp_map(world.map_of("localhost", "name.invalid"))
    result = await world.result()
    assert set(result.report.region_latency_s) == {1}
    assert result.home_region == 1


async def test_without_relays_local_addresses_are_reported_at_once(world: World) -> None:
    world.runner.request()
    assert len(world.results) == 1
    assert {found.endpoint for found in world.results[0].endpoints} == set(world.underlay.local_endpoints())
    assert world.results[0].home_region == 0


async def test_requests_during_a_run_are_merged_into_one_more(world: World) -> None:
    world.runner.set_derp_map(world.map_of("127.0.0.1"))
    world.runner.request()
    world.runner.request()
    await world.result(2)
    await asyncio.sleep(0.05)
    assert len(world.results) == 2


async def test_runs_repeat_while_in_use(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netcheck_runner, "REPEAT_AFTER_S", (0.01, 0.02))
    world.runner.set_derp_map(world.map_of("127.0.0.1"))
    await world.result(3)


async def test_nothing_runs_after_close(world: World) -> None:
    world.runner.close()
    world.runner.request()
    assert world.results == []
