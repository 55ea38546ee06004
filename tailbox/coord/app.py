"""The coordination role, put together: store, control channel, REST API, console, pages, metrics.

`open_coord` loads the state and returns a `Coord`, whose `service` the composition root serves beside others. Leaving
the service's lifespan ends all streams, stores what waits and lets go of the state directory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from tailbox import __version__
from tailbox.clock import Clock
from tailbox.coord.admin.console import ConsolePages, favicon
from tailbox.coord.admin.context import AdminContext
from tailbox.coord.admin.device_view import region_names
from tailbox.coord.admin.dispatch import rest_application
from tailbox.coord.admin.events import EventFeed
from tailbox.coord.admin.operations import OPERATIONS
from tailbox.coord.admin.pending_login_view import login_path
from tailbox.coord.admin.sessions import Sessions
from tailbox.coord.admin.sign_in import SignInPages
from tailbox.coord.admission_page import AdmissionPage
from tailbox.coord.bootstrap import seed, write_local_files
from tailbox.coord.config import CoordConfig, load_derp_map
from tailbox.coord.coordinator import Coordinator
from tailbox.coord.core import auth_keys
from tailbox.coord.core.change import Change
from tailbox.coord.core.records import User
from tailbox.coord.core.registration import Registrar
from tailbox.coord.login_pages import LoginPages
from tailbox.coord.machine.api import MachineContext, machine_application
from tailbox.coord.machine.login_waits import LoginWaits
from tailbox.coord.machine.map_streams import MapStreams
from tailbox.coord.machine.netmap_renderer import NetmapRenderer
from tailbox.coord.machine.noise_endpoint import NoiseEndpoint
from tailbox.coord.metrics import CoordMetrics
from tailbox.errors import ConfigError
from tailbox.randomness import RandomSource
from tailbox.runtime.service import Service
from tailbox.runtime.status_routes import Health
from tailbox.runtime.supervisor import Supervisor, TaskFailed
from tailbox.runtime.system import SystemClock, SystemRandom
from tailbox.wire.keys import NodePublicKey

NO_RELAY = "the DERP map has no region: clients cannot leave the state Starting"  # ipn/ipnlocal/local.go

log = logging.getLogger(__name__)


async def open_coord(
    config: CoordConfig,
    *,
    clock: Clock | None = None,
    random: RandomSource | None = None,
    is_inline: bool = False,
) -> Coord:
    """Open or create the state directory and build the role. Raises ConfigError before anything listens.

    `is_inline`: no threads, for virtual time. Whoever does not enter the service's lifespan calls `close`.
    """
    derp_map = load_derp_map(config)
    if not derp_map.regions:
        log.warning(NO_RELAY)
    clock, random = clock or SystemClock(), random or SystemRandom()
    try:
        coordinator = await Coordinator.open(config.state_directory, clock=clock, random=random, is_inline=is_inline)
    except OSError as error:
        raise ConfigError("state_directory", str(config.state_directory), error.strerror or str(error)) from None
    try:
        owner = await coordinator.apply(partial(seed, config=config))
        await write_local_files(coordinator, config, owner)
    except BaseException:
        await coordinator.close()
        raise
    return Coord(coordinator, config, owner, NetmapRenderer(coordinator, derp_map), clock=clock, random=random)


class Coord:
    """A loaded coordinator with everything that the outside sees of it."""

    def __init__(
        self,
        coordinator: Coordinator,
        config: CoordConfig,
        owner: User,
        renderer: NetmapRenderer,
        *,
        clock: Clock,
        random: RandomSource,
    ) -> None:
        self.coordinator = coordinator
        self.config = config
        self.renderer = renderer
        self.metrics = CoordMetrics()
        self._owner_id = owner.id
        self._streams = MapStreams(clock=clock, random=random, metrics=self.metrics)
        self._waits = LoginWaits()
        regions = region_names(renderer.derp_map)
        self._feed = EventFeed(
            coordinator, clock=clock, server_url=config.server_url, regions=regions, metrics=self.metrics
        )
        self._supervisor = Supervisor(on_failure=_log_failure, clock=clock, random=random)
        self._admin = AdminContext(
            coordinator, config, clock, random, Sessions(random), self.metrics, self._feed, regions
        )
        machine = MachineContext(
            coordinator=coordinator,
            registrar=Registrar(random, lambda login_id: config.url(login_path(login_id))),
            renderer=renderer,
            streams=self._streams,
            waits=self._waits,
            clock=clock,
            metrics=self.metrics,
            followup_hold_s=config.followup_hold_s,
        )
        self._noise = NoiseEndpoint(
            coordinator.secrets.noise_key, machine_application(machine), random=random, clock=clock
        )
        self._relay_regions = len(renderer.derp_map.regions or {})
        self._watch()
        self.service = Service(
            name="coord",
            routes=self._routes(random),
            upgrades=self._noise.upgrades,
            lifespan=self._lifespan,
            registry=self.metrics.registry,
            health=self._health,
        )

    def sign_in_link(self) -> str:
        """A URL that signs one browser in as the owner, once, within 15 minutes."""
        return self._admin.sign_in_link(self._owner_id)

    async def create_auth_key(
        self, *, description: str = "", is_reusable: bool = False, is_ephemeral: bool = False, tags: Sequence[str] = ()
    ) -> str:
        """An auth key of the owner's, pre-approved, for nodes of this very machine. The text exists nowhere else."""
        created = await self.coordinator.apply(
            partial(
                auth_keys.create_auth_key,
                user_id=self._owner_id,
                random=self.coordinator.random,
                description=description,
                is_reusable=is_reusable,
                is_ephemeral=is_ephemeral,
                is_preauthorized=True,
                tags=tags,
            )
        )
        return created.text

    def knows_node(self, key: NodePublicKey) -> bool:
        """Whether a node key is one of ours and still valid: what a relay asks before it lets a client in."""
        node = self.coordinator.tailnet.node_by_key(key)
        return node is not None and not node.is_expired(self.coordinator.clock.unix_time())

    async def close(self) -> None:
        """End every stream and task, store what waits. Harmless twice."""
        self._streams.end_all()
        self._waits.close()
        self._feed.close()
        await self._supervisor.close()
        await self.coordinator.close()

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        is_listening = asyncio.Event()
        self._supervisor.keep_running("housekeeping", self.coordinator.run)
        self._supervisor.keep_running("changes", partial(self._follow_changes, is_listening))
        await is_listening.wait()
        try:
            yield
        finally:
            await self.close()

    async def _follow_changes(self, is_listening: asyncio.Event) -> None:
        """Tell map streams, held registrations and event streams of every change."""
        with self.coordinator.subscribe() as changes:
            is_listening.set()
            self._streams.notify_all()  # after a failure something may have been missed
            self._feed.start_anew()
            async for change in changes:
                self._tell(change)
                self._feed.publish(change)

    def _tell(self, change: Change) -> None:
        if change.nodes or change.users or change.has_settings:
            # Who sees what is the renderer's knowledge: a stream without a difference sends nothing.
            self._streams.notify_all()
        self._waits.notify(change.pending_logins)

    def _routes(self, random: RandomSource) -> list[BaseRoute]:
        console, sign_in, logins = ConsolePages(random), SignInPages(self._admin), LoginPages(self._admin)
        return [
            *self._noise.routes,
            Mount("/api", rest_application(OPERATIONS, self._admin, version=__version__)),
            Route("/verify", AdmissionPage(self.knows_node).post, methods=["POST"]),
            Route("/login", sign_in.get),
            Route("/login", sign_in.post, methods=["POST"]),
            Route("/login/{login_id}", logins.get),
            Route("/login/{login_id}", logins.post, methods=["POST"]),
            Route("/admin", _to_console),
            Route("/admin/{path:path}", console.get),
            Route("/favicon.ico", favicon),
            Route("/", _to_console),
        ]

    def _watch(self) -> None:
        coordinator = self.coordinator
        self.metrics.watch(
            nodes=lambda: float(len(coordinator.tailnet.nodes)),
            nodes_online=lambda: float(sum(node.is_online for node in coordinator.tailnet.nodes.values())),
            store_failures=lambda: float(coordinator.store_state.failures),
        )

    def _health(self) -> Health:
        """Unhealthy while changes cannot be stored: nobody can join then. Why is for the log, not for anybody."""
        can_store = self.coordinator.store_state.problem is None
        details: dict[str, str | int | float | bool] = {
            "nodes": len(self.coordinator.tailnet.nodes),
            "map_streams": len(self._streams),
            "relay_regions": self._relay_regions,
            "can_store": can_store,
        }
        if not self._relay_regions:
            details["warning"] = NO_RELAY
        return Health(is_healthy=can_store, details=details)


async def _to_console(_request: Request) -> Response:
    return RedirectResponse("/admin/", 307)


def _log_failure(failure: TaskFailed) -> None:
    log.error("task failed", extra={"task": failure.name, "retry_in_s": failure.retry_in_s}, exc_info=failure.error)
