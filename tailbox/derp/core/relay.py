"""The relay: frames of one connection in, packets and notices for others out.

A relay knows keys and nothing else. It looks up the destination's key, puts the source's in its place, and forgets the
packet. What it remembers is who has heard whom, to say when a peer leaves.

```text
receive_bytes(connection, bytes)
  SendPacket    → deliveries: same packet, source key in front
                  unknown key: dropped; a disco packet is answered PeerGone(NOT_HERE)
  NotePreferred → the home gauge          Ping → Pong
  mesh frames   → close: without the region's key nobody may send them
  any other     → thrown away, whatever it is
unregister(connection)
  last of its key → PeerGone(DISCONNECTED) to all that heard from it
```
Source: tailscale derp/derpserver/derpserver.go; spec: derp.md §7–§9.
"""

from __future__ import annotations

from dataclasses import dataclass

from tailbox.derp.core.connection import Connection, Delivery, DuplicatePolicy, Siblings
from tailbox.derp.core.counters import DropReason, PacketKind, RelayCounters
from tailbox.derp.core.login import ClientClaims
from tailbox.errors import WireError
from tailbox.wire.addresses import Endpoint
from tailbox.wire.derp import (
    FRAME_HEADER,
    FrameType,
    NotePreferred,
    PeerGone,
    PeerGoneReason,
    Ping,
    Pong,
)
from tailbox.wire.keys import KEY_BYTES, NodePublicKey

DISCO_MAGIC = b"TS\xf0\x9f\x92\xac"  # disco.go: the first bytes of a path discovery message
HOME_MOVE_AFTER_S = 5.0  # derpserver.go: a later change of mind is a move
MAX_CONNECTIONS_PER_KEY = 8  # ours: the oldest goes
MAX_NOTED_SOURCES = 4096  # ours, for one connection: beyond it, nobody tells it who leaves

_SEND_PACKET = FrameType.SEND_PACKET.value  # a plain integer: comparing one with an enum's costs as much as the lookup


@dataclass(frozen=True, slots=True)
class RelayEffects:
    """What the shell does next, in this order."""

    deliveries: tuple[Delivery, ...] = ()
    frames: tuple[tuple[Connection, bytes], ...] = ()  # whole control frames
    pongs: tuple[tuple[Connection, bytes], ...] = ()  # dropped by the shell when one is waiting already
    close: tuple[tuple[Connection, str], ...] = ()  # and why, for the log


NOTHING = RelayEffects()


class Relay:
    """All connections of one relay."""

    def __init__(self, counters: RelayCounters, *, policy: DuplicatePolicy = DuplicatePolicy.LAST_WRITER) -> None:
        self._policy = policy
        self._by_key: dict[bytes, Siblings] = {}
        self._listeners: dict[bytes, set[Connection]] = {}  # by source key: who has had packets from it
        self._next_number = 1
        self.counters = counters

    def register(
        self,
        key: NodePublicKey,
        claims: ClientClaims,
        *,
        endpoint: Endpoint | None = None,
        is_ideal: bool = True,
        now: float,
    ) -> tuple[Connection, RelayEffects]:
        """Take a client in. From now on packets for it may come out of any call."""
        connection = Connection(self._next_number, key, claims, endpoint=endpoint, is_ideal=is_ideal, now=now)
        self._next_number += 1
        siblings = self._by_key.get(key.raw)
        if siblings is None:
            siblings = self._by_key[key.raw] = Siblings(self._policy)
        siblings.add(connection)
        connection.siblings = siblings
        self._count_arrival(connection, len(siblings.members))
        if len(siblings.members) > MAX_CONNECTIONS_PER_KEY:
            return connection, RelayEffects(close=((siblings.members[0], "too many connections with this key"),))
        return connection, NOTHING

    def unregister(self, connection: Connection) -> RelayEffects:
        """Forget a connection, whoever ended it. Harmless twice."""
        siblings = connection.siblings
        if siblings is None:
            return NOTHING
        connection.siblings = None
        siblings.remove(connection)
        self._count_departure(connection, len(siblings.members))
        for source in connection.sources:
            listeners = self._listeners.get(source)
            if listeners is not None:
                listeners.discard(connection)
                if not listeners:
                    del self._listeners[source]
        connection.sources.clear()
        if siblings.members:
            return NOTHING
        del self._by_key[connection.raw_key]
        return RelayEffects(frames=self._notices_of(connection))

    def receive_bytes(self, connection: Connection, data: bytes, *, now: float) -> RelayEffects:
        """The next bytes of a connection. Never raises; a violation is in `close`, and nothing is read after it."""
        siblings = connection.siblings
        splitter = connection.splitter
        if siblings is None or splitter.has_failed:
            return NOTHING
        frames = splitter.feed(data)
        if frames and len(siblings.members) > 1 and siblings.note_activity(connection, now=now):
            self.counters.duplicate_fights += 1
        batch = _Batch(self, connection, now)
        reason = batch.take(frames)
        if reason is None and splitter.error is not None:
            reason = str(splitter.error)
        if reason is not None:
            self.counters.client_violations += 1
            batch.close.append((connection, reason))
        return batch.effects()

    def connections_of(self, key: NodePublicKey) -> tuple[Connection, ...]:
        """All connections of a key, oldest first."""
        siblings = self._by_key.get(key.raw)
        return tuple(siblings.members) if siblings is not None else ()

    @property
    def keys(self) -> int:
        """How many different clients are connected."""
        return len(self._by_key)

    # For batches.

    def destination(self, raw_key: bytes, *, now: float) -> tuple[Connection | None, DropReason]:
        """Who gets packets for a key, and else why nobody does."""
        siblings = self._by_key.get(raw_key)
        if siblings is None:
            return None, DropReason.UNKNOWN_DESTINATION
        return siblings.active or siblings.wake(now=now), DropReason.DUPLICATE_CLIENT

    def note_source(self, raw_key: bytes, destination: Connection) -> None:
        """Remember to tell `destination` when the key leaves."""
        if len(destination.sources) < MAX_NOTED_SOURCES:
            destination.sources.add(raw_key)
            self._listeners.setdefault(raw_key, set()).add(destination)

    def note_preferred(self, connection: Connection, is_home: bool, *, now: float) -> None:
        """Statistics only."""
        if connection.is_home == is_home:
            return
        connection.is_home = is_home
        moved = now - connection.connected_at > HOME_MOVE_AFTER_S
        self.counters.current_home_connections += 1 if is_home else -1
        self.counters.home_moves_in += moved and is_home
        self.counters.home_moves_out += moved and not is_home

    def _notices_of(self, gone: Connection) -> tuple[tuple[Connection, bytes], ...]:
        listeners = self._listeners.pop(gone.raw_key, None)
        if listeners is None:
            return ()
        for listener in listeners:
            listener.sources.discard(gone.raw_key)
        frame = PeerGone(gone.key, PeerGoneReason.DISCONNECTED).encode()
        self.counters.peer_gone_disconnected_frames += len(listeners)
        return tuple((listener, frame) for listener in sorted(listeners, key=lambda each: each.number))

    def _count_arrival(self, connection: Connection, members: int) -> None:
        counters = self.counters
        counters.accepts += 1
        counters.current_connections += 1
        counters.current_not_ideal_connections += not connection.is_ideal
        if members > 1:
            counters.total_duplicate_connections += 1
            counters.current_duplicate_keys += members == 2
            counters.current_duplicate_connections += 2 if members == 2 else 1

    def _count_departure(self, connection: Connection, members_left: int) -> None:
        counters = self.counters
        counters.current_connections -= 1
        counters.current_home_connections -= connection.is_home
        counters.current_not_ideal_connections -= not connection.is_ideal
        if members_left:
            counters.current_duplicate_keys -= members_left == 1
            counters.current_duplicate_connections -= 2 if members_left == 1 else 1


class _Batch:
    """The frames of one read, and what becomes of them."""

    __slots__ = ("_connection", "_deliveries", "_now", "_relay", "close", "frames", "pongs")

    def __init__(self, relay: Relay, connection: Connection, now: float) -> None:
        self._relay = relay
        self._connection = connection
        self._now = now
        self._deliveries: list[Delivery] = []
        self.frames: list[tuple[Connection, bytes]] = []
        self.pongs: list[tuple[Connection, bytes]] = []
        self.close: list[tuple[Connection, str]] = []

    def effects(self) -> RelayEffects:
        return RelayEffects(tuple(self._deliveries), tuple(self.frames), tuple(self.pongs), tuple(self.close))

    def take(self, frames: list[tuple[int, bytes]]) -> str | None:
        """Returns why the connection must be closed, or None. Runs of packets alike are gathered first."""
        run: list[bytes] = []
        run_destination, run_is_disco, run_bytes = b"", False, 0
        header, header_length, source = b"", -1, self._connection.raw_key
        for frame_type, payload in frames:
            if frame_type != _SEND_PACKET:
                reason = self._control(frame_type, payload)
                if reason is not None:
                    self._end_run(run_destination, run_is_disco, run, run_bytes)
                    return reason
                continue
            length = len(payload)
            if length < KEY_BYTES:
                self._end_run(run_destination, run_is_disco, run, run_bytes)
                return f"SendPacket of {length} bytes"
            destination, packet = payload[:KEY_BYTES], payload[KEY_BYTES:]
            is_disco = packet[:6] == DISCO_MAGIC
            if destination != run_destination or is_disco != run_is_disco:
                self._end_run(run_destination, run_is_disco, run, run_bytes)
                run, run_destination, run_is_disco, run_bytes = [], destination, is_disco, 0
            if length != header_length:
                # A RecvPacket is as long as its SendPacket: one key stands where the other stood.
                header, header_length = FRAME_HEADER.pack(FrameType.RECV_PACKET, length) + source, length
            run += (header, packet)
            run_bytes += length - KEY_BYTES
        self._end_run(run_destination, run_is_disco, run, run_bytes)
        return None

    def _end_run(self, destination: bytes, is_disco: bool, run: list[bytes], size_bytes: int) -> None:
        if not run:
            return
        relay, source = self._relay, self._connection
        counters, packets = relay.counters, len(run) // 2
        counters.bytes_received += size_bytes
        if is_disco:
            counters.packets_received_disco += packets
        else:
            counters.packets_received_other += packets
        target, why_not = relay.destination(destination, now=self._now)
        if target is not None:
            if source.raw_key not in target.sources:
                relay.note_source(source.raw_key, target)
            self._deliveries.append(Delivery(target, is_disco, run, size_bytes))
            return
        kind = PacketKind.DISCO if is_disco else PacketKind.OTHER
        counters.drop(why_not, kind, packets=packets, size_bytes=size_bytes)
        if is_disco and why_not is DropReason.UNKNOWN_DESTINATION:
            self._say_not_here(destination, packets)

    def _say_not_here(self, destination: bytes, times: int) -> None:
        frame = PeerGone(NodePublicKey(destination), PeerGoneReason.NOT_HERE).encode()
        for _ in range(times):
            if not self._connection.not_here.take(now=self._now):
                return
            self.frames.append((self._connection, frame))
            self._relay.counters.peer_gone_not_here_frames += 1

    def _control(self, frame_type: int, payload: bytes) -> str | None:
        """Returns why the connection must be closed, or None."""
        relay, connection = self._relay, self._connection
        try:
            if frame_type == FrameType.PING:
                relay.counters.got_ping += 1
                pong = Pong(Ping.decode(payload).data)
                if connection.pings.take(now=self._now):
                    self.pongs.append((connection, pong.encode()))
            elif frame_type == FrameType.NOTE_PREFERRED:
                relay.note_preferred(connection, NotePreferred.decode(payload).is_home, now=self._now)
            elif frame_type in (FrameType.WATCH_CONNS, FrameType.CLOSE_PEER, FrameType.FORWARD_PACKET):
                return f"frame of type {frame_type:#04x} without the mesh key"
            else:
                relay.counters.unknown_frames += frame_type != FrameType.PONG
        except WireError as error:
            return str(error)
        return None
