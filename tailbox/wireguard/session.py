"""Sessions: the keys that a handshake gave, their counters and their end. Source: WireGuard paper §5.4.6, §6.1 to §6.3.

A peer holds up to three. The initiator of a handshake uses the new session at once; the responder keeps it as `next`
until the first packet under it proves that the initiator has it too. The one before stays to receive stragglers.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tailbox.wireguard.handshake import TransportKeys
from tailbox.wireguard.replay_window import ReplayWindow
from tailbox.wireguard.timers import (
    NEVER,
    REJECT_AFTER_MESSAGES,
    REJECT_AFTER_TIME_S,
    REKEY_AFTER_MESSAGES,
    REKEY_AFTER_TIME_S,
    REKEY_ON_RECEIVE_AFTER_S,
)


class Session:
    """One key pair: an AEAD each way, a sending counter, a replay window."""

    __slots__ = (
        "_refreshed_on_receive",
        "created_at",
        "initiated_by_us",
        "local_index",
        "next_counter",
        "receiving_cipher",
        "rejected_at",
        "remote_index",
        "sending_cipher",
        "window",
    )

    def __init__(self, keys: TransportKeys, *, initiated_by_us: bool, now: float) -> None:
        self.sending_cipher = ChaCha20Poly1305(keys.sending)
        self.receiving_cipher = ChaCha20Poly1305(keys.receiving)
        self.local_index = keys.local_index
        self.remote_index = keys.remote_index
        self.initiated_by_us = initiated_by_us
        self.created_at = now
        self.rejected_at = now + REJECT_AFTER_TIME_S
        self.next_counter = 0
        self.window = ReplayWindow()
        self._refreshed_on_receive = False

    def can_send(self, packets: int, *, now: float) -> bool:
        return now < self.rejected_at and self.next_counter + packets <= REJECT_AFTER_MESSAGES

    def take_counters(self, packets: int) -> int:
        """The first of as many counters as there are packets to seal."""
        first = self.next_counter
        self.next_counter += packets
        return first

    def wants_rekey_after_sending(self, *, now: float) -> bool:
        """§6.2: after so many messages either end, after so long the initiator, lest both start at once."""
        if self.next_counter > REKEY_AFTER_MESSAGES:
            return True
        return self.initiated_by_us and now - self.created_at >= REKEY_AFTER_TIME_S

    def wants_rekey_after_receiving(self, *, now: float) -> bool:
        """§6.2: the initiator who only listens refreshes in time, once."""
        if not self.initiated_by_us or self._refreshed_on_receive:
            return False
        self._refreshed_on_receive = now - self.created_at >= REKEY_ON_RECEIVE_AFTER_S
        return self._refreshed_on_receive

    def __repr__(self) -> str:
        return f"Session(local {self.local_index:#010x}, remote {self.remote_index:#010x}, sent {self.next_counter})"


class KeyRing:
    """Previous, current and next session. Each method returns the sessions that fell out."""

    __slots__ = ("current", "next", "previous")

    def __init__(self) -> None:
        self.previous: Session | None = None
        self.current: Session | None = None
        self.next: Session | None = None

    def held(self) -> list[Session]:
        return [session for session in (self.previous, self.current, self.next) if session is not None]

    def install_as_initiator(self, session: Session) -> list[Session]:
        """Current at once. A `next` that never was confirmed may still be: it becomes previous."""
        before = self.held()
        self.previous, self.current, self.next = self.next or self.current, session, None
        return self._fallen(before)

    def install_as_responder(self, session: Session) -> list[Session]:
        """Next, until confirmed."""
        before = self.held()
        self.previous, self.next = None, session
        return self._fallen(before)

    def confirm(self, session: Session) -> list[Session] | None:
        """A packet arrived under `session`: make it current if it was next. None if it was not."""
        if session is not self.next:
            return None
        before = self.held()
        self.previous, self.current, self.next = self.current, session, None
        return self._fallen(before)

    def expire(self, *, now: float) -> list[Session]:
        """Forget what may neither send nor receive any more."""
        before = self.held()
        self.previous, self.current, self.next = (
            session if session is not None and now < session.rejected_at else None
            for session in (self.previous, self.current, self.next)
        )
        return self._fallen(before)

    def clear(self) -> list[Session]:
        before = self.held()
        self.previous = self.current = self.next = None
        return before

    def next_expiry_at(self) -> float:
        return min((session.rejected_at for session in self.held()), default=NEVER)

    def _fallen(self, before: list[Session]) -> list[Session]:
        held = self.held()
        return [session for session in before if session not in held]
