"""Two endpoints back to back, and what passes between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tailbox.crypto import x25519
from tailbox.randomness import SeededRandom
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train
from tailbox.wireguard.events import TunnelEffects, TunnelEvent
from tailbox.wireguard.tunnels import PeerSettings, Tunnels

UNIX_OFFSET_S = 1_700_000_000.0


class End:
    """An endpoint with a memory of everything that came out of it."""

    def __init__(self, seed: str) -> None:
        random = SeededRandom(seed)
        self.private = x25519.generate(NodePrivateKey, random)
        self.public: NodePublicKey = x25519.node_public(self.private)
        self.tunnels = Tunnels(self.private, random=random, unix_offset_s=UNIX_OFFSET_S)
        self.source = b"\x0a\0\0" + seed.encode()[:1] + b"\xa2\x81"
        self.received: list[tuple[NodePublicKey, bytes]] = []
        self.events: list[TunnelEvent] = []
        self.heard: list[NodePublicKey] = []

    def note(self, effects: TunnelEffects) -> list[Train]:
        """Remember the effects; returns messages to send, copied as a queue would."""
        self.received += [(peer, bytes(packet)) for peer, train in effects.to_stack for packet in train]
        self.events += effects.events
        self.heard += effects.heard
        return [train.copied() for _, train in effects.to_network]


class Pair:
    """Alice and Bob, who know each other, and a wire that a test may tamper with."""

    def __init__(self, *, preshared_key: bytes | None = None, persistent_keepalive_s: float = 0.0) -> None:
        self.alice, self.bob = End("alice"), End("bob")
        self.now = 1000.0
        self.tamper: Callable[[End, Train], Iterable[Train]] = lambda sender, train: [train]
        for end, other in ((self.bob, self.alice), (self.alice, self.bob)):
            settings = PeerSettings(
                preshared_key=preshared_key,
                persistent_keepalive_s=persistent_keepalive_s if end is self.alice else 0.0,
            )
            self.exchange(end, end.tunnels.set_peers({other.public: settings}, now=self.now))

    def capture(self, *, deliver: bool) -> list[Train]:
        """From now on, keep every message in the list returned, and deliver it or not."""
        captured: list[Train] = []

        def tamper(sender: End, train: Train) -> list[Train]:
            captured.append(train)
            return [train] if deliver else []

        self.tamper = tamper
        return captured

    def other(self, end: End) -> End:
        return self.bob if end is self.alice else self.alice

    def exchange(self, end: End, effects: TunnelEffects) -> None:
        """Carry what an end sent to the other, and the answers back, until all is quiet."""
        waiting = [(end, train) for train in end.note(effects)]
        while waiting:
            sender, train = waiting.pop(0)
            receiver = self.other(sender)
            for arriving in self.tamper(sender, train):
                answer = receiver.tunnels.open(arriving, source=sender.source, now=self.now)
                waiting += [(receiver, message) for message in receiver.note(answer)]
                for reply in answer.to_source:
                    back = sender.tunnels.open(Train.of(reply), source=receiver.source, now=self.now)
                    waiting += [(sender, message) for message in sender.note(back)]

    def send(self, end: End, *packets: bytes) -> None:
        """Send packets of equal size, the last one no longer, as one train."""
        train = Train(b"".join(packets), len(packets[0]))
        self.exchange(end, end.tunnels.seal(self.other(end).public, train, now=self.now))

    def run_until(self, moment: float) -> None:
        """Serve every deadline on the way to a moment."""
        while True:
            due = [
                (deadline.at, index, end)
                for index, end in enumerate((self.alice, self.bob))
                if (deadline := end.tunnels.next_deadline()) is not None and deadline.at <= moment
            ]
            if not due:
                break
            at, _, end = min(due)
            self.now = max(self.now, at)
            self.exchange(end, end.tunnels.handle_deadline(now=self.now))
        self.now = moment

    def run_for(self, seconds: float) -> None:
        self.run_until(self.now + seconds)
