"""One connection to a relay of one region: connect, log in, carry packets, and again after every loss.

Packets that come while there is no connection wait, a few of them; what a slow connection cannot take is dropped.
Source: derp.md §13, §19; tailscale wgengine/magicsock/derp.go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailbox.clock import Clock
from tailbox.derp.core.client import (
    ClientState,
    DerpClient,
    DerpEvent,
    LoggedIn,
    PacketsReceived,
    PeerViolation,
    Received,
)
from tailbox.errors import RemoteProtocolError, TailboxError
from tailbox.node.derp_dial import DialSettings, dial
from tailbox.node.underlay_events import RelayConnected, RelayDisconnected, RelayHealth, UnderlayEvent
from tailbox.paths.path import Relayed
from tailbox.randomness import RandomSource
from tailbox.runtime.byte_stream import ByteStream
from tailbox.runtime.network import Network
from tailbox.runtime.supervisor import Backoff
from tailbox.wire.control.derp_map import DERPNode, DERPRegion
from tailbox.wire.derp import Frame, Health, NotePreferred, PeerGone, Ping, Pong
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.train import LONGEST_TRAIN_BYTES, LONGEST_TRAIN_PACKETS, MAX_TRAIN_BYTES, Train

CONNECT_TIMEOUT_S = 10.0  # derphttp_client.go: name, TCP, TLS, HTTP and login together
READ_TIMEOUT_S = 120.0  # derp_client.go: twice the relay's keep-alive
IDLE_TIMEOUT_S = 60.0  # magicsock/derp.go derpInactiveCleanupTime: links other than home
CHECK_EVERY_S = 15.0  # magicsock/derp.go derpCleanStaleInterval
PROBE_TIMEOUT_S = 3.0  # magicsock/derp.go: after a network change
LONGEST_RETRY_S = 5.0  # derp.md §13: reconnect back-off
STEADY_AFTER_S = 10.0  # ours: a connection that held this long starts the backoff anew
MAX_WAITING_TRAINS = 32  # magicsock/derp.go bufferedDerpWritesBeforeDrop
MAX_WAITING_BYTES = 256 * 1024  # ours
MAX_UNSENT_BYTES = 512 * 1024  # ours: what a connection may be behind before packets are dropped


@dataclass(slots=True)
class RelayCounters:
    """Counts of all links together, never reset."""

    sent_packets: int = 0
    sent_bytes: int = 0
    received_packets: int = 0
    received_bytes: int = 0
    dropped_full: int = 0  # packets that a slow or missing connection could not take
    dropped_oversized: int = 0


@dataclass(frozen=True, slots=True)
class LinkSurroundings:
    """What links have in common."""

    network: Network
    clock: Clock
    random: RandomSource
    dial_settings: DialSettings
    on_train: Callable[[Train, Relayed, NodePublicKey], None]
    on_peer_gone: Callable[[NodePublicKey, int], None]
    on_event: Callable[[UnderlayEvent], None]
    counters: RelayCounters


class DerpLink:
    """A region's link. `run()` is its life; it returns when nobody needs the link any more."""

    def __init__(self, region: DERPRegion, private_key: NodePrivateKey, around: LinkSurroundings) -> None:
        self.region = region
        self._around = around
        self._private_key = private_key
        self._path = Relayed(region.region_id)
        self._client: DerpClient | None = None
        self._stream: ByteStream | None = None
        self._waiting: deque[tuple[NodePublicKey, Train]] = deque()
        self._waiting_bytes = 0
        self._ended = asyncio.Event()
        self._logged_in = asyncio.Event()
        self._violation = ""
        self._is_home = False
        self._written_at = around.clock.monotonic()
        self._received_at = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether packets go out now."""
        return self._client is not None and self._client.state is ClientState.READY

    def set_home(self, is_home: bool) -> None:
        """Tell the relay whether we live there; a home link is never idle."""
        if is_home == self._is_home:
            return
        self._is_home = is_home
        self._written_at = self._around.clock.monotonic()
        if self.is_ready:
            self._send_frame(NotePreferred(is_home))

    def send(self, peer: NodePublicKey, train: Train) -> None:
        """Never blocks. Without a connection the train waits, and the oldest waiting one makes room."""
        self._written_at = self._around.clock.monotonic()
        if self.is_ready:
            self._write(peer, train)
            return
        self._waiting.append((peer, train.copied()))
        self._waiting_bytes += len(train.data)
        while len(self._waiting) > MAX_WAITING_TRAINS or self._waiting_bytes > MAX_WAITING_BYTES:
            _, dropped = self._waiting.popleft()
            self._waiting_bytes -= len(dropped.data)
            self._around.counters.dropped_full += len(dropped)

    def probe(self) -> None:
        """After a network change: a connection that does not answer soon is given up."""
        if not self.is_ready or self._stream is None:
            return
        probed, asked_at = self._stream, self._around.clock.monotonic()
        self._send_frame(Ping(self._around.random.bytes(8)))

        def judge() -> None:
            if self._stream is probed and self._received_at < asked_at:
                probed.abort()

        asyncio.get_running_loop().call_later(PROBE_TIMEOUT_S, judge)

    async def run(self) -> None:
        """Connect, and again after every loss, as long as the link is home or in use."""
        backoff = Backoff(self._around.random, longest_s=LONGEST_RETRY_S)
        while True:
            started_at = self._around.clock.monotonic()
            try:
                why = await self._one_connection()
            except (OSError, TailboxError) as error:
                why = str(error) or ("timed out" if isinstance(error, TimeoutError) else type(error).__name__)
            finally:
                self._hang_up()
            if not self._is_needed():
                self._around.on_event(RelayDisconnected(self.region.region_id, why, None))
                return
            if self._around.clock.monotonic() - started_at >= STEADY_AFTER_S:
                backoff.reset()
            delay_s = backoff.next_delay_s()
            self._around.on_event(RelayDisconnected(self.region.region_id, why, delay_s))
            await asyncio.sleep(delay_s)

    # One connection.

    async def _one_connection(self) -> str:
        """Returns why it ended. Raises OSError and TailboxError if it broke or did not come about."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            node = await self._connect()
            await self._logged_in.wait()
        if self._ended.is_set():
            raise RemoteProtocolError(self._violation or "relay closed the connection during login")
        self._around.on_event(RelayConnected(self.region.region_id, node.host_name))
        while not self._ended.is_set():
            try:
                async with asyncio.timeout(CHECK_EVERY_S):  # wait_for of Python 3.11 can swallow a cancellation
                    await self._ended.wait()
            except TimeoutError:
                if not self._is_needed():
                    return "idle"
                if self._around.clock.monotonic() - self._received_at >= READ_TIMEOUT_S:
                    return f"silent for {READ_TIMEOUT_S:.0f} s"
        return self._violation or "closed by the relay"

    async def _connect(self) -> DERPNode:
        """The region's nodes in order; the first that answers is used."""
        nodes = [node for node in self.region.nodes if not node.stun_only]
        failure: Exception = OSError(f"region {self.region.region_id} has no relay")
        for node in nodes:
            ideal = nodes[0].name if node is not nodes[0] else ""
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S / len(nodes)):
                    stream, upgrade = await dial(
                        self._around.network, node, self._around.dial_settings, ideal_node=ideal
                    )
            except (OSError, TailboxError) as error:
                failure = error
                continue
            self._start(stream, DerpClient(self._private_key, random=self._around.random, upgrade=upgrade))
            return node
        raise failure

    def _start(self, stream: ByteStream, client: DerpClient) -> None:
        self._ended.clear()
        self._logged_in.clear()
        self._violation = ""
        self._stream, self._client = stream, client
        self._received_at = self._around.clock.monotonic()
        stream.write(client.data_to_send())
        stream.set_receiver(self._on_bytes)

    def _hang_up(self) -> None:
        stream, self._stream, self._client = self._stream, None, None
        if stream is not None:
            stream.close()

    def _is_needed(self) -> bool:
        return self._is_home or self._around.clock.monotonic() - self._written_at < IDLE_TIMEOUT_S

    # Bytes in.

    def _on_bytes(self, data: bytes) -> None:
        if not data:
            self._end("")
            return
        if self._client is None or self._stream is None:
            return
        self._received_at = self._around.clock.monotonic()
        client, stream = self._client, self._stream
        for event in client.receive_bytes(data):
            self._on_event(event)
        if output := client.data_to_send():
            stream.write(output)

    def _on_event(self, event: DerpEvent) -> None:
        match event:
            case PacketsReceived():
                self._deliver(event)
            case Received():
                self._on_frame(event.frame)
            case LoggedIn():
                self._on_logged_in()
            case PeerViolation():
                self._end(event.reason)

    def _deliver(self, event: PacketsReceived) -> None:
        counters = self._around.counters
        for train in trains_of(event.packets):
            if train.stride > MAX_TRAIN_BYTES:
                counters.dropped_oversized += 1
                continue
            counters.received_packets += len(train)
            counters.received_bytes += len(train.data)
            self._around.on_train(train, self._path, event.source)

    def _on_frame(self, frame: Frame) -> None:
        match frame:
            case Ping():
                self._send_frame(Pong(frame.data))
            case PeerGone():
                self._around.on_peer_gone(frame.peer, self.region.region_id)
            case Health():
                self._around.on_event(RelayHealth(self.region.region_id, frame.text))
            case _:
                pass  # keep-alives and what is for mesh links

    def _on_logged_in(self) -> None:
        self._logged_in.set()
        if self._is_home:
            self._send_frame(NotePreferred(True))
        waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
        for peer, train in waiting:
            self._write(peer, train)

    def _end(self, violation: str) -> None:
        self._violation = self._violation or violation
        self._ended.set()
        self._logged_in.set()

    # Bytes out.

    def _write(self, peer: NodePublicKey, train: Train) -> None:
        """The whole train in one write."""
        counters = self._around.counters
        if self._stream is None or self._client is None or self._stream.buffered > MAX_UNSENT_BYTES:
            counters.dropped_full += len(train)
            return
        counters.sent_packets += len(train)
        counters.sent_bytes += len(train.data)
        self._stream.write(self._client.send_train(peer, train))

    def _send_frame(self, frame: Frame) -> None:
        if self._stream is not None and self._client is not None and self._stream.buffered <= MAX_UNSENT_BYTES:
            self._stream.write(self._client.send(frame))


def trains_of(packets: Sequence[bytes]) -> list[Train]:
    """Neighbours of equal size as one train; a shorter packet ends it. Empty packets are left out."""
    trains: list[Train] = []
    run: list[bytes] = []
    run_bytes = 0
    for packet in packets:
        size = len(packet)
        if not size:
            continue
        is_longest = run_bytes + size > LONGEST_TRAIN_BYTES or len(run) == LONGEST_TRAIN_PACKETS
        if run and (size > len(run[0]) or is_longest):
            trains.append(_joined(run))
            run, run_bytes = [], 0
        run.append(packet)
        run_bytes += size
        if size < len(run[0]):
            trains.append(_joined(run))
            run, run_bytes = [], 0
    if run:
        trains.append(_joined(run))
    return trains


def _joined(run: list[bytes]) -> Train:
    return Train(run[0] if len(run) == 1 else b"".join(run), len(run[0]))
