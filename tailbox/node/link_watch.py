"""Notices that the machine's network changed: other addresses, or a sleep during which anything may have changed.

The addresses are asked for every few seconds, which costs less than a packet and needs no right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tailbox.clock import Clock
from tailbox.node.local_addresses import usable_addresses
from tailbox.runtime.network import Network
from tailbox.wire.addresses import IPAddress

CHECK_EVERY_S = 5.0  # ours
SLEPT_S = 60.0  # ours: the wall clock got that far ahead of the monotonic one, which stands still while we sleep


class LinkWatch:
    """Calls `on_change` after each change, again while it raises OSError; `run` never returns."""

    def __init__(
        self,
        network: Network,
        clock: Clock,
        on_change: Callable[[], Awaitable[None]],
        *,
        check_every_s: float = CHECK_EVERY_S,
    ) -> None:
        self._network = network
        self._clock = clock
        self._on_change = on_change
        self._check_every_s = check_every_s

    async def run(self) -> None:
        addresses, offset_s = self._addresses(), self._offset_s()
        is_due = False
        while True:
            await asyncio.sleep(self._check_every_s)
            before = addresses, offset_s
            addresses, offset_s = self._addresses(), self._offset_s()
            is_due = is_due or addresses != before[0] or offset_s - before[1] > SLEPT_S
            if is_due:
                try:
                    await self._on_change()
                except OSError:
                    continue  # in the middle of the change there may be no network at all: again next time
                is_due = False

    def _addresses(self) -> frozenset[IPAddress]:
        return frozenset(usable_addresses(self._network.interface_addresses(), include_loopback=False))

    def _offset_s(self) -> float:
        return self._clock.unix_time() - self._clock.monotonic()
