"""Changes of the machine's addresses, and of its clock, are noticed once each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

from tailbox.node.link_watch import LinkWatch
from tailbox.runtime.network import HostNetwork, InterfaceAddress

Eventually = Callable[[Callable[[], bool]], Any]


class FakeNetwork(HostNetwork):
    def __init__(self) -> None:
        self.ips = ["192.0.2.1", "127.0.0.1"]

    def interface_addresses(self) -> tuple[InterfaceAddress, ...]:
        return tuple(InterfaceAddress("eth0", IPv4Address(ip)) for ip in self.ips)


class FakeClock:
    unix_s = 1e9

    def monotonic(self) -> float:
        return 5.0

    def unix_time(self) -> float:
        return self.unix_s


async def test_changes_are_told_once_each_and_failures_again(eventually: Eventually) -> None:
    network, clock = FakeNetwork(), FakeClock()
    told: list[str] = []
    failures = [OSError("no network"), OSError("still none")]

    async def on_change() -> None:
        told.append("change")
        if len(told) > 2 and failures:
            raise failures.pop()

    task = asyncio.create_task(LinkWatch(network, clock, on_change, check_every_s=0.01).run())
    await asyncio.sleep(0.1)
    assert told == []
    network.ips = ["127.0.0.1", "192.0.2.1", "192.0.2.1"]
    clock.unix_s += 30
    await asyncio.sleep(0.1)
    assert told == [], "the same addresses, and a clock that was set"
    network.ips = ["192.0.2.2"]
    await eventually(lambda: len(told) == 1)
    clock.unix_s += 100
    await eventually(lambda: len(told) == 2)
    network.ips = []
    await eventually(lambda: len(told) == 5)
    await asyncio.sleep(0.1)
    assert len(told) == 5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
