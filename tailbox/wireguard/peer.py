"""One peer: its handshakes, sessions, waiting packets and timers. Made when first needed, not when configured.

Source: WireGuard paper §6; wireguard-go device/send.go, receive.go, timers.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tailbox.randomness import RandomSource
from tailbox.wire.keys import KEY_BYTES, NodePublicKey
from tailbox.wire.train import Train
from tailbox.wire.wireguard import CookieReply, HandshakeResponse
from tailbox.wireguard.batches import Opened, TrainSealer, seal_packets, sealable_parts
from tailbox.wireguard.cookies import CookieJar
from tailbox.wireguard.events import (
    DropReason,
    EffectsBuilder,
    HandshakeAbandoned,
    HandshakeCompleted,
    HandshakeStarted,
    SessionExpired,
)
from tailbox.wireguard.handshake import NO_PRESHARED_KEY, Identity, PendingInitiation, ReceivedInitiation
from tailbox.wireguard.indices import IndexTable
from tailbox.wireguard.session import KeyRing, Session
from tailbox.wireguard.staging import StagedPackets
from tailbox.wireguard.tai64n import OLDEST, timestamp_after
from tailbox.wireguard.timers import (
    KEEPALIVE_TIMEOUT_S,
    NEVER,
    REKEY_ATTEMPT_TIME_S,
    REKEY_TIMEOUT_S,
    RETRY_JITTER_S,
    PeerTimers,
)

INITIATION_INTERVAL_S = 0.020  # wireguard-go HandshakeInitationRate: accepted from one peer
KEEPALIVE = Train(b"", 1)


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """What is configured of a peer. Raises ValueError for a key of another length or a negative interval."""

    preshared_key: bytes | None = field(default=None, repr=False)
    persistent_keepalive_s: float = 0.0  # 0: off

    def __post_init__(self) -> None:
        if self.preshared_key is not None and len(self.preshared_key) != KEY_BYTES:
            raise ValueError(f"pre-shared key of {len(self.preshared_key)} bytes, wanted {KEY_BYTES}")
        if self.persistent_keepalive_s < 0:
            raise ValueError(f"persistent keepalive of {self.persistent_keepalive_s} s")


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What may be shown of a peer."""

    last_handshake_at: float | None = None  # monotonic seconds
    sent_bytes: int = 0  # on the wire, handshakes excluded
    received_bytes: int = 0
    has_session: bool = False  # may send without another handshake


class LocalEnd:
    """What all peers of an endpoint share."""

    __slots__ = ("identity", "indices", "random", "sealer", "unix_offset_s")

    def __init__(self, identity: Identity, random: RandomSource, unix_offset_s: float) -> None:
        self.identity = identity
        self.random = random
        self.unix_offset_s = unix_offset_s
        self.indices = IndexTable(random)
        self.sealer = TrainSealer()


class Peer:
    """The machine between packets of one peer and its handshakes. The caller reschedules `timers` after every call."""

    __slots__ = (
        "_attempt",
        "_cookies",
        "_initiation_accepted_at",
        "_initiation_sent_at",
        "_keys",
        "_last_handshake_at",
        "_latest_timestamp",
        "_local",
        "_pending",
        "_received_bytes",
        "_sent_bytes",
        "_sent_timestamp",
        "_settings",
        "_staged",
        "_wanted_since",
        "key",
        "static_shared",
        "timers",
    )

    def __init__(self, key: NodePublicKey, settings: PeerSettings, local: LocalEnd, *, static_shared: bytes) -> None:
        self.key = key
        self.static_shared = static_shared
        self.timers = PeerTimers(key)
        self.timers.persistent_keepalive_s = settings.persistent_keepalive_s
        self._settings = settings
        self._local = local
        self._cookies = CookieJar(key)
        self._keys = KeyRing()
        self._staged = StagedPackets()
        self._pending: PendingInitiation | None = None
        self._attempt = 0
        self._wanted_since = NEVER
        self._initiation_sent_at = -NEVER  # or the response that makes an initiation needless
        self._initiation_accepted_at = -NEVER
        self._latest_timestamp = OLDEST
        self._sent_timestamp = OLDEST
        self._last_handshake_at: float | None = None
        self._sent_bytes = 0
        self._received_bytes = 0

    def status(self) -> PeerStatus:
        has_session = self._keys.current is not None
        return PeerStatus(self._last_handshake_at, self._sent_bytes, self._received_bytes, has_session)

    def configure(self, settings: PeerSettings, *, now: float, out: EffectsBuilder) -> None:
        """Take new settings; a new pre-shared key holds from the next handshake on."""
        turned_on = settings.persistent_keepalive_s and not self.timers.persistent_keepalive_s
        self._settings = settings
        self.timers.persistent_keepalive_s = settings.persistent_keepalive_s
        self.timers.persistent_at = NEVER
        self.timers.traversed(now=now)
        if turned_on:
            self.send_keepalive(now=now, out=out)

    # Outbound

    def send(self, train: Train, *, now: float, out: EffectsBuilder) -> None:
        """Seal IP packets, or keep them and ask for a handshake."""
        session = self._keys.current
        if session is not None and session.can_send(len(train), now=now):
            self._seal(session, train, now=now, out=out)
            self.timers.data_sent(now=now)
            return
        if not sealable_parts(train):
            out.drop(DropReason.TOO_BIG, len(train), self.key)
            return
        out.drop(DropReason.STAGING_FULL, self._staged.add(train), self.key)
        self._request_handshake(now=now, out=out)

    def send_keepalive(self, *, now: float, out: EffectsBuilder) -> None:
        """An empty packet, or the handshake that it needs."""
        session = self._keys.current
        if session is None or not session.can_send(1, now=now):
            self._request_handshake(now=now, out=out)
            return
        sealed = seal_packets(session.sending_cipher, session.remote_index, session.take_counters(1), KEEPALIVE)
        self._note_sealed(session, sealed, now=now, out=out)

    def _seal(self, session: Session, train: Train, *, now: float, out: EffectsBuilder) -> None:
        parts = sealable_parts(train)
        # Only one train a call may lie in the sealer's buffer, so that all trains of the effects stay valid.
        seal = self._local.sealer.seal if len(parts) == 1 else seal_packets
        for part in parts:
            counter = session.take_counters(len(part))
            sealed = seal(session.sending_cipher, session.remote_index, counter, part)
            self._note_sealed(session, sealed, now=now, out=out)
        if not parts:
            out.drop(DropReason.TOO_BIG, len(train), self.key)

    def _note_sealed(self, session: Session, sealed: Train, *, now: float, out: EffectsBuilder) -> None:
        out.to_network.append((self.key, sealed))
        self._sent_bytes += len(sealed.data)
        self.timers.authenticated_sent(now=now)
        if session.wants_rekey_after_sending(now=now):
            self._request_handshake(now=now, out=out)

    def _flush_staged(self, session: Session, *, now: float, out: EffectsBuilder) -> None:
        """Send what waited, on buffers of its own."""
        for train in self._staged.take():
            counter = session.take_counters(len(train))
            sealed = seal_packets(session.sending_cipher, session.remote_index, counter, train)
            self._note_sealed(session, sealed, now=now, out=out)
            self.timers.data_sent(now=now)

    # Handshakes

    def _request_handshake(self, *, now: float, out: EffectsBuilder) -> None:
        """There is a reason for a new session: attempts may go on from now for their full time."""
        self._wanted_since = now
        if now - self._initiation_sent_at >= REKEY_TIMEOUT_S:
            self._attempt = 0
            self._initiate(now=now, out=out)
        elif self.timers.retransmit_at == NEVER:
            # A response of ours is on its way. Should it be lost, nobody else would start again.
            self.timers.retransmit_at = self._initiation_sent_at + REKEY_TIMEOUT_S + self.timers.jitter_s

    def _initiate(self, *, now: float, out: EffectsBuilder) -> None:
        local = self._local
        self._drop_pending()
        self._sent_timestamp = timestamp_after(self._sent_timestamp, now + local.unix_offset_s)
        self._pending = pending = PendingInitiation(
            local.identity,
            self.key,
            static_shared=self.static_shared,
            ephemeral=local.random.bytes(KEY_BYTES),
            local_index=local.indices.unused(),
            timestamp=self._sent_timestamp,
        )
        local.indices.bind(self.key, pending)
        message = self._cookies.add_macs(pending.message.encode(), now=now)
        out.to_network.append((self.key, Train.of(message)))
        self._attempt += 1
        self._initiation_sent_at = now
        self.timers.jitter_s = local.random.uniform(0.0, RETRY_JITTER_S)
        self.timers.authenticated_sent(now=now)
        self.timers.initiation_sent(now=now)
        out.events.append(HandshakeStarted(self.key, self._attempt))

    def accept_initiation(
        self, received: ReceivedInitiation, timestamp: bytes, *, now: float, out: EffectsBuilder
    ) -> None:
        """Answer an initiation that `authenticate` found genuine."""
        if timestamp <= self._latest_timestamp:
            out.drop(DropReason.REPLAYED_HANDSHAKE, peer=self.key)
            return
        if now - self._initiation_accepted_at < INITIATION_INTERVAL_S:
            out.drop(DropReason.HANDSHAKE_FLOOD, peer=self.key)
            return
        local = self._local
        self._latest_timestamp = timestamp
        self._initiation_accepted_at = now
        response, keys = received.respond(
            ephemeral=local.random.bytes(KEY_BYTES),
            local_index=local.indices.unused(),
            preshared_key=self._settings.preshared_key or NO_PRESHARED_KEY,
        )
        session = Session(keys, initiated_by_us=False, now=now)
        local.indices.bind(self.key, session)
        self._release(self._keys.install_as_responder(session))
        out.hear(self.key)
        out.to_network.append((self.key, Train.of(self._cookies.add_macs(response.encode(), now=now))))
        self._initiation_sent_at = now
        self.timers.authenticated_received(now=now)
        self.timers.authenticated_sent(now=now)

    def accept_response(
        self, pending: PendingInitiation, response: HandshakeResponse, *, now: float, out: EffectsBuilder
    ) -> None:
        """Finish a handshake of ours and use its session at once. Raises AuthenticationError, and changes nothing."""
        keys = pending.accept(response, self._settings.preshared_key or NO_PRESHARED_KEY)
        session = Session(keys, initiated_by_us=True, now=now)
        self._pending = None
        self._local.indices.bind(self.key, session)
        self._release(self._keys.install_as_initiator(session))
        out.hear(self.key)
        self.timers.authenticated_received(now=now)
        self._complete(session, now=now, out=out)

    def accept_cookie(self, reply: CookieReply, *, now: float, out: EffectsBuilder) -> None:
        """Keep the cookie. The next attempt shows it, at its own time (§6.6)."""
        if not self._cookies.accept(reply, now=now):
            out.drop(DropReason.BAD_COOKIE, peer=self.key)

    def _complete(self, session: Session, *, now: float, out: EffectsBuilder) -> None:
        self._drop_pending()
        self._wanted_since = NEVER
        self._last_handshake_at = now
        self.timers.retransmit_at = NEVER
        out.events.append(HandshakeCompleted(self.key, session.initiated_by_us))
        if self._staged:
            self._flush_staged(session, now=now, out=out)
        elif session.initiated_by_us:
            self.send_keepalive(now=now, out=out)  # the responder may not send before it has heard from us

    def _retry(self, *, now: float, out: EffectsBuilder) -> None:
        if now - self._wanted_since < REKEY_ATTEMPT_TIME_S:
            self._initiate(now=now, out=out)
            return
        self._drop_pending()
        self.timers.retransmit_at = self.timers.keepalive_at = NEVER
        dropped = self._staged.clear()
        out.drop(DropReason.HANDSHAKE_ABANDONED, dropped, self.key)
        out.events.append(HandshakeAbandoned(self.key, dropped))

    # Inbound

    def accept_opened(
        self, session: Session, opened: Opened, wire_bytes: int, *, now: float, out: EffectsBuilder
    ) -> None:
        """Take what came of opening packets under `session`."""
        out.drop(DropReason.FORGED, opened.forged, self.key)
        out.drop(DropReason.REPLAYED, opened.replayed, self.key)
        if not opened.authenticated:
            return
        self._received_bytes += wire_bytes
        out.hear(self.key)
        for train in opened.trains:
            out.to_stack.append((self.key, train))
        fallen = self._keys.confirm(session)
        if fallen is not None:
            self._release(fallen)
            self._complete(session, now=now, out=out)
        self.timers.authenticated_received(now=now)
        if opened.data_packets:
            self.timers.data_received(now=now)
        if session is self._keys.current and session.wants_rekey_after_receiving(now=now):
            self._request_handshake(now=now, out=out)

    # Time

    def handle_deadline(self, *, now: float, out: EffectsBuilder) -> None:
        """Do what is due."""
        timers = self.timers
        if timers.expiry_at <= now:
            self._expire(now=now, out=out)
        if timers.retransmit_at <= now:
            self._retry(now=now, out=out)
        if timers.unanswered_at <= now:
            timers.unanswered_at = NEVER
            self._request_handshake(now=now, out=out)
        if timers.keepalive_at <= now:
            again, timers.wants_another_keepalive = timers.wants_another_keepalive, False
            timers.keepalive_at = NEVER
            self.send_keepalive(now=now, out=out)
            if again:
                timers.keepalive_at = now + KEEPALIVE_TIMEOUT_S
        if timers.persistent_at <= now:
            timers.traversed(now=now)
            self.send_keepalive(now=now, out=out)

    def forget(self, reason: DropReason, out: EffectsBuilder) -> None:
        """Drop sessions, handshake and waiting packets. Timestamps stay, so that nothing can be replayed."""
        self._drop_pending()
        self._release(self._keys.clear())
        self.timers.clear()
        self._initiation_sent_at = -NEVER
        out.drop(reason, self._staged.clear(), self.key)

    def _expire(self, *, now: float, out: EffectsBuilder) -> None:
        had_session = self._keys.current is not None
        self._release(self._keys.expire(now=now))
        if had_session and self._keys.current is None:
            out.events.append(SessionExpired(self.key))

    def _drop_pending(self) -> None:
        if self._pending is not None:
            self._local.indices.release(self._pending)
            self._pending = None

    def _release(self, fallen: list[Session]) -> None:
        """Let go of the indices of sessions that fell out of the ring, and look when the next one will."""
        for session in fallen:
            self._local.indices.release(session)
        self.timers.expiry_at = self._keys.next_expiry_at()
