"""Links to relays: home always, other regions while they are in use."""

from __future__ import annotations

import asyncio
from functools import partial

from msgspec import UnsetType

from tailbox.node.derp_link import DerpLink, LinkSurroundings
from tailbox.runtime.supervisor import Supervisor
from tailbox.wire.control.derp_map import DERPMap, DERPRegion
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train


class DerpLinks:
    """At most one connection per region. `unroutable_packets` counts those for regions that nobody described."""

    def __init__(self, around: LinkSurroundings, supervisor: Supervisor) -> None:
        self._around = around
        self._supervisor = supervisor
        self._private_key: NodePrivateKey | None = None
        self._regions: dict[int, DERPRegion] = {}
        self._home = 0
        self._links: dict[int, DerpLink] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._is_closed = False
        self.unroutable_packets = 0

    @property
    def home(self) -> int:
        return self._home

    @property
    def ready_regions(self) -> tuple[int, ...]:
        """Regions with a connection that carries packets now."""
        return tuple(sorted(region_id for region_id, link in self._links.items() if link.is_ready))

    def set_private_key(self, private_key: NodePrivateKey | None) -> None:
        """Whom to log in as; open links log in again. None: no links at all."""
        if private_key == self._private_key:
            return
        self._private_key = private_key
        for region_id in list(self._links):
            self._drop(region_id)
        self._keep_home()

    def set_derp_map(self, derp_map: DERPMap | None) -> None:
        """Where relays are. Links to regions that changed, or went, are dropped."""
        regions = None if derp_map is None else derp_map.regions
        if isinstance(regions, UnsetType):  # a map that says nothing of regions keeps those of before
            return
        self._regions = dict(regions or {})
        for region_id, link in list(self._links.items()):
            if self._regions.get(region_id) != link.region:
                self._drop(region_id)
        self._keep_home()

    def set_home(self, region_id: int) -> None:
        """Keep a link to this region open; 0: to none. The former home becomes an ordinary link."""
        if region_id == self._home:
            return
        if (former := self._links.get(self._home)) is not None:
            former.set_home(False)
        self._home = region_id
        self._keep_home()

    def send(self, region_id: int, peer: NodePublicKey, train: Train) -> None:
        """Never blocks. Opens a link if there is none."""
        link = self._links.get(region_id) or self._open(region_id)
        if link is None:
            self.unroutable_packets += len(train)
        else:
            link.send(peer, train)

    def probe(self) -> None:
        """The network changed: find out which connections survived."""
        for link in self._links.values():
            link.probe()

    async def close(self) -> None:
        """End all links. Harmless twice."""
        self._is_closed = True
        tasks = list(self._tasks.values())
        for region_id in list(self._links):
            self._drop(region_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _keep_home(self) -> None:
        link = self._links.get(self._home) or self._open(self._home)
        if link is not None:
            link.set_home(True)

    def _open(self, region_id: int) -> DerpLink | None:
        region = self._regions.get(region_id)
        if region is None or self._private_key is None or self._is_closed:
            return None
        link = self._links[region_id] = DerpLink(region, self._private_key, self._around)
        task = self._supervisor.run_once(f"relay link {region_id}", link.run)
        self._tasks[region_id] = task
        task.add_done_callback(partial(self._forget, region_id))
        return link

    def _forget(self, region_id: int, task: asyncio.Task[None]) -> None:
        if self._tasks.get(region_id) is task:
            self._links.pop(region_id, None)
            del self._tasks[region_id]

    def _drop(self, region_id: int) -> None:
        self._links.pop(region_id, None)
        if (task := self._tasks.pop(region_id, None)) is not None:
            task.cancel()
