"""The node's parts, wired: state, control session, engine, underlay, netcheck; and the state the node is in.

`Node` is the public face; LocalAPI and proxy use what `Node` uses. Everything runs in the loop that called `start`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tailbox.clock import Clock
from tailbox.crypto.x25519 import generate, node_public
from tailbox.errors import TailboxError
from tailbox.node.backend_state import derive_state
from tailbox.node.config import NodeConfig
from tailbox.node.control_loop import ControlLoop
from tailbox.node.core.control_session import (
    LoggedIn,
    LoginRefused,
    Phase,
    SessionEvent,
    VisitUrl,
)
from tailbox.node.core.engine import EngineEvent
from tailbox.node.core.netmap import Netmap
from tailbox.node.core.netmap_view import ViewPreferences
from tailbox.node.core.status import BackendState
from tailbox.node.core.tap import PacketTap
from tailbox.node.data_path import DataPath
from tailbox.node.events import HomeRelayChanged, MapStreamEnded, NetmapChanged, StateChanged
from tailbox.node.host_information import netcheck_json
from tailbox.node.link_watch import LinkWatch
from tailbox.node.netcheck_runner import NetcheckResult, NetcheckRunner
from tailbox.node.netmap_cache import NetmapCache
from tailbox.node.netmap_keeper import NetmapKeeper
from tailbox.node.parts import make_client, make_engine, make_session, state_at_start
from tailbox.node.pings import Pings
from tailbox.node.self_report import SelfReport
from tailbox.node.state_file import StateStore, logged_out, open_state
from tailbox.node.underlay import Underlay
from tailbox.node.underlay_events import UnderlayEvent
from tailbox.randomness import RandomSource
from tailbox.runtime.network import Network
from tailbox.runtime.supervisor import Supervisor, TaskFailed
from tailbox.telemetry.events import EventLog
from tailbox.wire.control.timestamp import Timestamp
from tailbox.wire.keys import DiscoPrivateKey, NodePrivateKey, NodePublicKey

HOME_RELAY_PATIENCE_S = 5.0  # ours: a node without any reachable relay counts as running after this
MEASURE_TIMEOUT_S = 10.0  # ours: twice what a run takes at most


class Backend:
    """One node's parts. `start` once, `close` once."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        network: Network,
        clock: Clock,
        random: RandomSource,
        events: EventLog,
        tap: PacketTap | None = None,
        include_loopback: bool = False,
    ) -> None:
        self.config = config
        self.clock = clock
        self.random = random
        self.events = events
        self.tap = tap
        self.network = network
        self._include_loopback = include_loopback
        self.pings = Pings()
        self._is_patience_timed = False
        self._home_region = 0
        self._state = BackendState.NO_STATE
        self._changed = asyncio.Event()
        self._is_closed = False

    # Life.

    async def start(self) -> None:
        """Open everything; joining goes on in the background. Raises ConfigError, OSError."""
        self.store: StateStore = open_state(self.config.state_file)
        try:
            self._open_state()
            self._make_parts()
            await self.underlay.start(self.config.listen_port)
        except BaseException:
            self.store.close()
            raise
        self._load_netmap()
        self.report.set_config(self.config, self.state_on_disk.hostname)
        self.control.start()
        self.netmaps.start()
        self.supervisor.keep_running("link changes", LinkWatch(self.network, self.clock, self.rebind).run)
        self._refresh_state()

    async def close(self) -> None:
        """Ephemeral nodes say goodbye; everything ends."""
        self._is_closed = True
        if self.config.is_ephemeral and self.session.phase is Phase.POLLING:
            try:
                async with asyncio.timeout(1.0):
                    await self.control.logout()
            except (TailboxError, OSError):
                pass  # the coordinator cleans up by itself, only later
        await self.forwarder.close()
        await self.supervisor.close()
        await self.control.close()
        self.netmaps.close()
        await self.data_path.close()
        self.store.close()
        self._changed.set()

    def _open_state(self) -> None:
        self.state_on_disk = state_at_start(self.store.load(), self.config, self.random)
        self.store.save(self.state_on_disk)

    def _make_parts(self) -> None:
        disco_key = generate(DiscoPrivateKey, self.random)
        self.supervisor = Supervisor(on_failure=self._on_failure, clock=self.clock, random=self.random)
        self.session = make_session(self.config, self.state_on_disk, disco_key, self.random)
        self._identity = self.session.node_key
        self._make_data_path(disco_key)
        self._make_control()

    def _make_control(self) -> None:
        """And what hangs on it."""
        self._cache = NetmapCache(self.config.state_dir, self.state_on_disk.login_server)
        self.netmaps = NetmapKeeper(
            self.driver,
            self.clock,
            self.supervisor,
            self._cache,
            preferences=self._preferences,
            on_derp_map=self.data_path.set_derp_map,
            on_applied=self._on_netmap,
            on_ended=self._on_map_ended,
        )
        client = make_client(self.config, self.state_on_disk, self.network, self.random)
        self.control = ControlLoop(
            self.session,
            client,
            self.netmaps,
            clock=self.clock,
            supervisor=self.supervisor,
            on_event=self._on_session_event,
        )
        self.report = SelfReport(
            self.session, self.driver, log_id=self.random.bytes(32).hex(), tell_soon=self.control.update_soon
        )

    def _make_data_path(self, disco_key: DiscoPrivateKey) -> None:
        config, clock, random = self.config, self.clock, self.random
        self.data_path = path = DataPath(
            clock,
            make_underlay=lambda owner: Underlay(
                self.network,
                clock,
                owner.on_train,
                random=random,
                supervisor=self.supervisor,
                on_event=owner.on_underlay_event,
                on_peer_gone=owner.on_peer_gone,
                include_loopback=self._include_loopback,
                relay_authorities=config.tls_ca_file,
            ),
            make_engine=lambda transmit: make_engine(
                config, self._identity, disco_key, transmit=transmit, clock=clock, random=random, tap=self.tap
            ),
            make_netcheck=lambda underlay: NetcheckRunner(
                self.network,
                clock,
                underlay,
                self.supervisor,
                random=random,
                on_result=self._on_netcheck,
                fixed_port=config.listen_port,
            ),
            forward_to=config.forward_to,
            relays_only=config.always_relay,
            tap=self.tap,
            on_engine_event=self._on_engine_event,
            on_underlay_event=self._on_underlay_event,
        )
        self.underlay, self.driver, self.netcheck = path.underlay, path.driver, path.netcheck
        self.forwarder, self.traffic = path.forwarder, path.traffic
        self.underlay.set_private_key(self._identity)

    # State.

    @property
    def state(self) -> BackendState:
        return self._state

    @property
    def public_key(self) -> NodePublicKey:
        return node_public(self._identity)

    async def wait_for_change(self) -> None:
        """Until the state, the netmap or the sign-in address changes."""
        await self._changed.wait()

    def say_changed(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _refresh_state(self) -> None:
        state = self._derive_state()
        if state is not self._state:
            self._state = state
            self.publish(StateChanged(state))
        self.say_changed()

    def _derive_state(self) -> BackendState:
        has_relay = self._home_region in self.underlay.connected_regions
        is_patience_over = self.clock.monotonic() - self.netmaps.since >= HOME_RELAY_PATIENCE_S
        return derive_state(
            self.session,
            self.netmap,
            is_reachable=has_relay or is_patience_over or self._state is BackendState.RUNNING,
            now_unix_s=self.clock.unix_time(),
        )

    def publish(self, event: object) -> None:
        self.events.publish(f"node:{self.state_on_disk.hostname}", event)

    # What users ask for.

    def up(self) -> None:
        self.session.up()
        self._remember(want_running=True)
        self.control.wake()
        self._refresh_state()

    async def down(self) -> None:
        """Leave the tailnet without logging out: no traffic, no poll."""
        self.session.down()
        self._remember(want_running=False)
        self.control.wake()
        self._forget_netmap()
        self._refresh_state()

    async def logout(self) -> None:
        """Raises ControlError while the coordinator cannot be told."""
        await self.control.logout()
        self.state_on_disk = logged_out(self.state_on_disk)
        self.store.save(self.state_on_disk)
        self._forget_netmap(on_disk=True)
        self._take_identity(self.session.node_key)
        self._refresh_state()

    def login(self, *, auth_key: str = "", force: bool = False) -> None:
        self.session.login(auth_key=auth_key, force=force)
        self.control.wake()
        self._refresh_state()

    def set_hostname(self, hostname: str) -> None:
        self._remember(hostname=hostname)
        self.report.set_config(self.config, hostname)

    def set_config(self, config: NodeConfig) -> None:
        """Preferences that may change while running."""
        self.config = config
        self.report.set_config(config, self.state_on_disk.hostname)
        self.netmaps.apply_soon()

    async def rebind(self) -> None:
        """The network changed: new sockets, and every path is searched anew."""
        await self.data_path.rebind()

    async def measure(self) -> dict[str, object]:
        """A fresh netcheck, in upstream's JSON. Raises TimeoutError."""
        before = self.netcheck.last_result
        self.netcheck.request(full=True)
        async with asyncio.timeout(MEASURE_TIMEOUT_S):
            while self.netcheck.last_result is before:
                await self.wait_for_change()
        assert self.netcheck.last_result is not None
        now = Timestamp.from_unix(self.clock.unix_time())
        return netcheck_json(self.netcheck.last_result, now=str(now))

    def _remember(self, **changes: object) -> None:
        changed = replace(self.state_on_disk, **changes)  # type: ignore[arg-type]  # names of NodeState's own fields
        if changed != self.state_on_disk:
            self.state_on_disk = changed
            self.store.save(changed)

    # The netmap.

    @property
    def netmap(self) -> Netmap | None:
        """What the coordinator said last; from disk before it says anything."""
        return self.netmaps.netmap

    @property
    def filter_problems(self) -> tuple[str, ...]:
        return self.netmaps.filter_problems

    def _load_netmap(self) -> None:
        """Peers of the last time are reached even though the coordinator is away."""
        key = self.state_on_disk.node_key
        if key is None:
            return
        cached = self._cache.load(node_public(key), now_unix_s=self.clock.unix_time())
        if cached is not None:
            self.netmaps.take_cached(cached)

    def _preferences(self) -> ViewPreferences:
        return ViewPreferences(
            accept_routes=self.config.accept_routes,
            shields_up=self.config.shields_up,
            advertise_routes=self.config.advertise_routes,
            always_relay=self.config.always_relay,
        )

    def _on_netmap(self, netmap: Netmap) -> None:
        """The engine has it."""
        if not self._is_patience_timed:
            self._is_patience_timed = True
            asyncio.get_running_loop().call_later(HOME_RELAY_PATIENCE_S, self._on_patience_over)
        self._remember(tailnet=netmap.domain)
        self.publish(NetmapChanged(len(netmap.peers)))
        self._refresh_state()
        is_present = netmap.self_node.key == node_public(self.session.node_key)  # not one of before a new login
        if is_present and netmap.is_expired(netmap.self_node, now_unix_s=self.clock.unix_time()):
            self.session.self_expired(now=self.clock.monotonic())
            self.control.wake()

    def _on_map_ended(self, why: str) -> None:
        if not self._is_closed:
            self.publish(MapStreamEnded(why))

    def _forget_netmap(self, *, on_disk: bool = False) -> None:
        self.netmaps.forget(on_disk=on_disk)
        self._home_region = 0
        self._is_patience_timed = False

    def _on_patience_over(self) -> None:
        if not self._is_closed:
            self._refresh_state()

    def _take_identity(self, key: NodePrivateKey) -> None:
        if key == self._identity:
            return
        self._identity = key
        self.data_path.set_identity(key, node_public(key))
        self.netmaps.engine_was_reset()

    # Events of the parts.

    def _on_session_event(self, event: SessionEvent) -> None:
        self.publish(event)
        if isinstance(event, LoggedIn):
            self._take_identity(event.key)
            old = self.state_on_disk.node_key
            previous = old if old is not None and old != event.key else self.state_on_disk.old_node_key
            self._remember(node_key=event.key, old_node_key=previous, logged_out=False)
        elif isinstance(event, VisitUrl | LoginRefused) and self.netmaps.is_from_disk:
            self._forget_netmap(on_disk=True)  # the coordinator answers, and does not know us any more
        self._refresh_state()

    def _on_engine_event(self, event: EngineEvent) -> None:
        self.pings.handle(event, now=self.driver.now)
        self.publish(event)

    def _on_underlay_event(self, event: UnderlayEvent) -> None:
        self.publish(event)
        if not self._is_closed:
            self._refresh_state()

    def _on_netcheck(self, result: NetcheckResult) -> None:
        if self._is_closed:
            return
        if result.home_region != self._home_region:
            self._home_region = result.home_region
            self.underlay.set_home(result.home_region)
            self.publish(HomeRelayChanged(result.home_region))
        self.report.set_netcheck(result, self.config, self.state_on_disk.hostname)
        self._refresh_state()

    def _on_failure(self, failure: TaskFailed) -> None:
        self.publish(failure)
