"""The relay's shell: streams become logged-in sessions, and the core's effects become bytes.

Its law: one read, all its effects; writes go out once at the end of the turn of the event loop.
Source: tailscale derp/derpserver/derpserver.go; spec: derp.md §6, §7.4, §13.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tailbox.clock import Clock
from tailbox.crypto.x25519 import node_public
from tailbox.derp.admission import Admission
from tailbox.derp.arrivals import ArrivalLimits
from tailbox.derp.config import MIN_BURST_BYTES, DerpConfig
from tailbox.derp.core.connection import Connection
from tailbox.derp.core.counters import RelayCounters
from tailbox.derp.core.login import ClientProven, LoginFailed, ServerClaims, ServerLogin
from tailbox.derp.core.relay import Relay, RelayEffects
from tailbox.derp.session import QueueBudget, Session
from tailbox.errors import Malformed
from tailbox.randomness import RandomSource
from tailbox.runtime.byte_stream import ByteStream, PeerAddress
from tailbox.telemetry.events import EventLog
from tailbox.wire.addresses import Endpoint, parse_ip
from tailbox.wire.keys import NodePrivateKey, NodePublicKey


@dataclass(frozen=True, slots=True)
class ClientConnected:
    """A client has logged in."""

    key: NodePublicKey
    source: str
    is_websocket: bool


@dataclass(frozen=True, slots=True)
class ClientDisconnected:
    """A client's connection has ended."""

    key: NodePublicKey
    reason: str


@dataclass(frozen=True, slots=True)
class ClientRefused:
    """A connection that did not become a client's."""

    source: str
    reason: str


class RelayServer:
    """All sessions of one relay."""

    def __init__(
        self,
        config: DerpConfig,
        private_key: NodePrivateKey,
        *,
        admission: Admission,
        clock: Clock,
        random: RandomSource,
        events: EventLog | None = None,
    ) -> None:
        self.config = config
        self.public_key = node_public(private_key)
        self.counters = RelayCounters()
        self.arrivals = ArrivalLimits(config, self.counters, clock=clock)
        self.budget = QueueBudget(config.total_queue_bytes)
        self._private_key = private_key
        self._admission = admission
        self._clock = clock
        self._random = random
        self._events = events
        self._relay = Relay(self.counters, policy=config.duplicates)
        self._sessions: dict[Connection, Session] = {}
        self._unflushed: set[Session] = set()
        self._claims = ServerClaims()
        if config.advertises_rate_limit and config.rate_limit_bytes_per_s > 0:
            burst = max(MIN_BURST_BYTES, config.rate_limit_burst_bytes)
            self._claims = ServerClaims(
                token_bucket_bytes_per_second=config.rate_limit_bytes_per_s, token_bucket_bytes_burst=burst
            )

    @property
    def keys(self) -> int:
        """How many different clients are connected."""
        return self._relay.keys

    async def serve(
        self, stream: ByteStream, *, peer: PeerAddress | None, is_ideal: bool = True, is_websocket: bool = False
    ) -> None:
        """Run one connection from the greeting to its end. The caller closes the stream."""
        source = peer[0] if peer else ""
        with self.arrivals.login_under_way():
            login = ServerLogin(self._private_key, random=self._random)
            proven = await self._log_in(login, stream, source)
        if isinstance(proven, LoginFailed):
            self.counters.refused[_label(proven)] += 1
            self._publish(ClientRefused(source, proven.reason))
            return
        await self._run(login, proven, stream, _endpoint(peer), is_ideal, is_websocket)

    def close(self) -> None:
        """End every session."""
        for session in list(self._sessions.values()):
            session.flush()
            session.stream.close()

    # Login.

    async def _log_in(self, login: ServerLogin, stream: ByteStream, source: str) -> ClientProven | LoginFailed:
        stream.write(login.greeting())
        try:
            async with asyncio.timeout(self.config.greeting_timeout_s):
                proven = await self._read_login(login, stream)
        except TimeoutError:
            return LoginFailed("no ClientInfo in time")
        if isinstance(proven, LoginFailed):
            return proven
        if proven.key == self.public_key:
            return LoginFailed("client uses the relay's own key")
        if not await self._admission.admits(proven.key, source):
            return LoginFailed("not admitted")
        return proven

    async def _read_login(self, login: ServerLogin, stream: ByteStream) -> ClientProven | LoginFailed:
        while True:
            data = await stream.read()
            if not data:
                return LoginFailed("connection ended before the login")
            outcome = login.receive_bytes(data)
            if outcome is not None:
                return outcome

    async def _run(
        self,
        login: ServerLogin,
        proven: ClientProven,
        stream: ByteStream,
        endpoint: Endpoint | None,
        is_ideal: bool,
        is_websocket: bool,
    ) -> None:
        connection, effects = self._relay.register(
            proven.key, proven.claims, endpoint=endpoint, is_ideal=is_ideal, now=self._clock.monotonic()
        )
        session = Session(
            stream,
            connection,
            config=self.config,
            counters=self.counters,
            budget=self.budget,
            clock=self._clock,
            random=self._random,
            receive=self._on_bytes,
        )
        self._sessions[connection] = session
        self.counters.websocket_accepts += is_websocket
        self._publish(ClientConnected(proven.key, str(endpoint.ip) if endpoint else "", is_websocket))
        try:
            # Registered first, told second: clients send to each other as soon as they hear that they are in.
            stream.write(login.admit(self._claims))
            self._perform(effects)
            session.start(login.take_rest())
            await stream.wait_closed()
        finally:
            session.dispose()
            del self._sessions[connection]
            self._unflushed.discard(session)
            self._perform(self._relay.unregister(connection))
            self._publish(ClientDisconnected(proven.key, session.close_reason or "connection ended"))

    # Data path.

    def _on_bytes(self, session: Session, data: bytes) -> None:
        self._perform(self._relay.receive_bytes(session.connection, data, now=self._clock.monotonic()))

    def _perform(self, effects: RelayEffects) -> None:
        for delivery in effects.deliveries:
            session = self._sessions[delivery.destination]
            session.deliver(delivery)
            self._flush_soon(session)
        for connection, frame in effects.frames:
            session = self._sessions[connection]
            session.send_frame(frame)
            self._flush_soon(session)
        for connection, frame in effects.pongs:
            session = self._sessions[connection]
            session.send_pong(frame)
            self._flush_soon(session)
        for connection, reason in effects.close:
            self._close(connection, reason)

    def _flush_soon(self, session: Session) -> None:
        """At the end of this turn of the event loop: what all readable connections brought leaves together."""
        if not self._unflushed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unflushed.add(session)

    def _flush(self) -> None:
        sessions, self._unflushed = self._unflushed, set()
        for session in sessions:
            session.flush()

    def _close(self, connection: Connection, reason: str) -> None:
        session = self._sessions.get(connection)
        if session is not None:
            session.close(reason)

    def _publish(self, event: ClientConnected | ClientDisconnected | ClientRefused) -> None:
        if self._events is not None:
            self._events.publish("derp", event)


def _endpoint(peer: PeerAddress | None) -> Endpoint | None:
    if peer is None:
        return None
    try:
        return Endpoint(parse_ip(peer[0].partition("%")[0]), peer[1])
    except Malformed:
        return None


def _label(failed: LoginFailed) -> str:
    """A metric label: one of few, whatever a client makes the text say."""
    return {"not admitted": "not_admitted", "no ClientInfo in time": "timeout"}.get(failed.reason, "login")
