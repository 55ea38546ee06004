"""What the coordinator says of the tailnet: merged, passed on to the engine, and kept on disk for bad times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tailbox.clock import Clock
from tailbox.node.core.netmap import Netmap, NetmapReducer
from tailbox.node.core.netmap_follower import NetmapFollower
from tailbox.node.core.netmap_view import ViewPreferences
from tailbox.node.driver import EngineDriver
from tailbox.node.netmap_cache import NetmapCache
from tailbox.runtime.supervisor import Supervisor
from tailbox.wire.control.derp_map import DERPMap
from tailbox.wire.control.map import MapResponse

EXPIRY_CHECK_S = 30.0  # ours: how often keys that ran out are looked for
SAVE_AFTER_S = 5.0  # ours: changes tend to come together, and a write costs more than they do


class NetmapKeeper:
    """The one netmap of a node. It is the control loop's MapListener."""

    def __init__(
        self,
        driver: EngineDriver,
        clock: Clock,
        supervisor: Supervisor,
        cache: NetmapCache,
        *,
        preferences: Callable[[], ViewPreferences],
        on_derp_map: Callable[[DERPMap | None], None],
        on_applied: Callable[[Netmap], None],
        on_ended: Callable[[str], None],
    ) -> None:
        """`on_applied`: the engine has it now. `on_ended`: why a map stream ended."""
        self._driver = driver
        self._clock = clock
        self._supervisor = supervisor
        self._cache = cache
        self._preferences = preferences
        self._on_derp_map = on_derp_map
        self._on_applied = on_applied
        self._on_ended = on_ended
        self._reducer = NetmapReducer()
        self._follower = NetmapFollower(driver.engine)
        self._is_due = False
        self._is_closed = False
        self._unsaved: Netmap | None = None
        self.netmap: Netmap | None = None
        self.is_from_disk = False  # the coordinator has not confirmed it
        self.since = 0.0  # when there was a netmap at first, on the monotonic clock

    @property
    def filter_problems(self) -> tuple[str, ...]:
        """What is wrong with the coordinator's rules."""
        return self._follower.filter_problems

    def start(self) -> None:
        self._supervisor.keep_running("key expiry", self._watch_expiry)
        if self._cache.is_kept:
            self._supervisor.keep_running("netmap on disk", self._save_for_ever)

    def close(self) -> None:
        """What was not saved yet is saved now."""
        self._is_closed = True
        if self._unsaved is not None:
            self._save_now(self._unsaved)

    # MapListener.

    def map_started(self) -> None:
        self._reducer = NetmapReducer()

    def map_message(self, message: MapResponse) -> str | None:
        wrong = self._reducer.apply(message, now_unix_s=self._clock.unix_time())
        if wrong is not None or self._reducer.netmap is self.netmap or self._reducer.netmap is None:
            return wrong
        if self._reducer.netmap.has_tailnet_lock:
            return "this tailnet uses tailnet lock, which Tailbox cannot verify"
        self._take(self._reducer.netmap, is_from_disk=False)
        if not message.keep_alive:
            self._unsaved = self.netmap
        return None

    def map_ended(self, why: str) -> None:
        if not self._is_closed:
            self._on_ended(why)

    # What the backend tells.

    def take_cached(self, netmap: Netmap) -> None:
        """Begin with a netmap from disk."""
        self._take(netmap, is_from_disk=True)

    def apply_soon(self) -> None:
        """Once for all messages that have arrived."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._apply)

    def engine_was_reset(self) -> None:
        """A new identity: the engine has to be told everything again."""
        self._follower.invalidate()
        self.apply_soon()

    def forget(self, *, on_disk: bool = False) -> None:
        """We are in no tailnet; `on_disk`: and shall not be after a restart."""
        self.netmap = self._unsaved = None
        self._driver.perform(self._follower.forget(now=self._driver.now))
        self._on_derp_map(None)
        if on_disk:
            self._cache.remove()

    # Inside.

    def _take(self, netmap: Netmap, *, is_from_disk: bool) -> None:
        if self.netmap is None:
            self.since = self._clock.monotonic()
        self.netmap, self.is_from_disk = netmap, is_from_disk
        self.apply_soon()

    def _apply(self) -> None:
        self._is_due = False
        netmap = self.netmap
        if netmap is None or self._is_closed:
            return
        effects = self._follower.apply(
            netmap, self._preferences(), now_unix_s=self._clock.unix_time(), now=self._driver.now
        )
        if effects is not None:
            self._driver.perform(effects)
        self._on_derp_map(netmap.derp_map)
        self._on_applied(netmap)

    async def _watch_expiry(self) -> None:
        """Peers whose key runs out lose their routes, told or not."""
        while True:
            await asyncio.sleep(EXPIRY_CHECK_S)
            if self.netmap is not None:
                self.apply_soon()

    async def _save_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SAVE_AFTER_S)
            netmap, self._unsaved = self._unsaved, None
            if netmap is not None:
                await self._supervisor.run_blocking(self._save_now, netmap)

    def _save_now(self, netmap: Netmap) -> None:
        try:
            self._cache.save(netmap)
        except OSError:
            pass  # a full disk: the netmap in memory serves, and the next change is another chance
